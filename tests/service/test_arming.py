"""What is seen of one arming, in the order in which it comes."""

from __future__ import annotations

from itertools import product

import pytest

from cuckoo_zfsiscsi.disk.target import Session
from cuckoo_zfsiscsi.service.arming import Arming
from cuckoo_zfsiscsi.service.chain import Verdict
from tests.clocks import VirtualClock

HOST = "10.99.0.12"


def session(number: int, address: str = HOST) -> Session:
    return Session("iqn.2017-10.lab:pc2.g1.x", address, number)


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def arming(clock: VirtualClock) -> Arming:
    """Make one whose host was switched on five seconds ago, and got its address since."""
    made = Arming(HOST, clock, floor=0.5, sees_dhcp=True)
    made.note("dhcp", clock.monotonic())  # before: not this boot's
    made.begin(clock.monotonic())
    clock.sleep(5.0)
    made.note("dhcp", clock.monotonic())
    return made


def test_a_boot(arming: Arming, clock: VirtualClock) -> None:
    assert arming.judge()[0] is Verdict.OPEN
    assert arming.ask()[0] is Verdict.OPEN
    arming.see([session(3)])
    for _ in range(5):
        arming.see([session(3), session(4)])
        clock.sleep(5.0)
    assert arming.judge() == (Verdict.WHOLE, "")
    assert arming.conclude() == (Verdict.WHOLE, "")
    assert arming.ask() == (Verdict.WHOLE, ""), "it belongs to another boot"
    assert arming.judge() == (Verdict.WHOLE, "")


def test_the_second_request_is_not_forgotten(arming: Arming) -> None:
    assert arming.ask()[0] is Verdict.OPEN
    for _ in range(3):
        assert arming.ask() == (Verdict.VOID, "its boot script was asked for a second time")
    arming.see([session(1), session(2)])
    assert arming.conclude()[0] is Verdict.VOID


def test_a_session_that_was_there_for_one_look(arming: Arming) -> None:
    arming.ask()
    for number in (1, 2, 3):
        arming.see([session(number)])
    assert arming.conclude() == (Verdict.VOID, "its disk had 3 sessions, and one boot has 2")


def test_a_login_before_the_script_was_given(arming: Arming) -> None:
    arming.see([session(1)])
    assert "before" in arming.judge()[1]
    assert arming.ask()[0] is Verdict.VOID


def test_a_request_before_power_on(clock: VirtualClock) -> None:
    arming = Arming(HOST, clock, floor=0.5)
    assert arming.ask()[0] is Verdict.VOID
    arming.begin(clock.monotonic())
    clock.sleep(5.0)
    assert arming.ask()[0] is Verdict.VOID


def test_an_address_that_another_boot_got(clock: VirtualClock) -> None:
    arming = Arming(HOST, clock, sees_dhcp=True)
    arming.note("dhcp", clock.monotonic())
    clock.sleep(1.0)
    arming.begin(clock.monotonic())
    arming.note("dhcp", clock.monotonic() - 0.5)
    arming.ask()
    arming.see([session(1)])
    assert arming.judge() == (Verdict.OPEN, "it was not seen to get its address")
    clock.sleep(60.0)
    assert arming.judge()[0] is Verdict.VOID
    arming.note("dhcp", clock.monotonic())
    assert arming.judge()[0] is Verdict.VOID


def test_a_boot_file_after_the_script(arming: Arming, clock: VirtualClock) -> None:
    arming.note("tftp", clock.monotonic())
    arming.ask()
    arming.see([session(1), session(2)])
    assert arming.judge()[0] is Verdict.WHOLE
    clock.sleep(20.0)
    arming.note("tftp", clock.monotonic())
    assert "boot file" in arming.conclude()[1]


HOST_ASKS, OTHER_ASKS, HOST_LOGS_IN, OTHER_LOGS_IN, OTHER_GOES, LOOK = range(6)
"""Moves of a host, of someone else under its card and address, and of the service."""


def test_whoever_moves_when_and_how_often(clock: VirtualClock) -> None:
    """Every game of six moves: if the host has its disk in the end, nobody else ever had it.

    Someone else who logs in writes to the disk; both know the secret by the script alone. Sessions
    that come and go between two looks are not seen.
    """
    ends = set()
    for moves in product(range(6), repeat=6):
        ends.add(play(Arming(HOST, clock), moves))
    assert ends == {(True, False), (False, False), (False, True)}


def play(arming: Arming, moves: tuple[int, ...]) -> tuple[bool, bool]:
    """Play a game; return whether the host has its disk and is ready, and who wrote to it."""
    knows, up, written = set[int](), dict[int, Session](), False
    for number, move in enumerate(moves):
        if move in (HOST_ASKS, OTHER_ASKS) and arming.ask()[0] is Verdict.OPEN:
            knows.add(move)
        elif move == HOST_LOGS_IN and HOST_ASKS in knows:
            up[HOST_LOGS_IN] = session(number)
        elif move == OTHER_LOGS_IN and OTHER_ASKS in knows:
            up[OTHER_LOGS_IN], written = session(number), True
        elif move == OTHER_GOES:
            up.pop(OTHER_LOGS_IN, None)
        elif move == LOOK:
            arming.see(up.values())
    arming.see(up.values())
    is_ready = arming.conclude()[0] is Verdict.WHOLE and HOST_LOGS_IN in up
    return is_ready, written

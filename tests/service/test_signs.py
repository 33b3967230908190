"""What was seen of a host before its boot was known: kept for that boot, and not for ever."""

from __future__ import annotations

import pytest

from cuckoo_zfsiscsi.config import load
from cuckoo_zfsiscsi.service.boot import LATE, Boot
from cuckoo_zfsiscsi.service.pace import Pace
from cuckoo_zfsiscsi.service.parts import Parts
from cuckoo_zfsiscsi.service.report import BootReport
from cuckoo_zfsiscsi.service.signs import BEFORE, Signs
from tests.clocks import VirtualClock
from tests.config.sample import EXAMPLE
from tests.service.fakes import FakeBoots, FakePower, FakeStore, FakeTarget, World


@pytest.fixture
def signs(clock: VirtualClock) -> Signs:
    return Signs(clock)


@pytest.fixture
def boot(world: World, clock: VirtualClock) -> Boot:
    parts = Parts(
        FakeStore(world),
        FakeTarget(world),
        FakePower(world),
        FakeBoots(world),
        {},
        pace=Pace(clock=clock),
    )
    return Boot(load(EXAMPLE).hosts[0], parts, BootReport("pc1", 1, "win10@1", prewarmed=False))


def test_a_boot_that_does_not_ask_for_its_script_has_stalled(
    signs: Signs, clock: VirtualClock
) -> None:
    assert signs.patience(clock.monotonic()) is None
    signs.note("dhcp", clock.monotonic())
    assert signs.patience(clock.monotonic()) == BEFORE
    clock.sleep(BEFORE)
    assert not signs.has_stalled(clock.monotonic(), is_off=True)
    assert signs.patience(clock.monotonic()) == 1.0, "and not at once, again and again"
    clock.sleep(1.0)
    assert signs.has_stalled(clock.monotonic(), is_off=True)
    assert not signs.has_stalled(clock.monotonic(), is_off=False), "a guest asks for an address"
    signs.note("tftp", clock.monotonic() - BEFORE - 1.0)
    assert signs.has_stalled(clock.monotonic(), is_off=False), "but for no boot file"


def test_a_boot_begins_with_the_first_sign_of_it(
    signs: Signs, boot: Boot, clock: VirtualClock
) -> None:
    signs.note("dhcp", clock.monotonic())  # of another boot: too old
    clock.sleep(2 * BEFORE)
    for stage in ("dhcp", "tftp"):
        clock.sleep(3.0)
        signs.note(stage, clock.monotonic())
    clock.sleep(4.0)
    signs.tell(boot)
    assert boot.report.stages == {"dhcp": 0.0, "tftp": 3.0}
    assert boot.age == 7.0
    assert signs.patience(clock.monotonic()) is None, "it is told once"


def test_a_boot_that_was_switched_on_begins_then(
    signs: Signs, boot: Boot, clock: VirtualClock
) -> None:
    signs.note("dhcp", clock.monotonic())  # before power was cut
    clock.sleep(5.0)
    boot.begin(clock.monotonic())
    clock.sleep(2.0)
    signs.note("dhcp", clock.monotonic())
    signs.tell(boot)
    assert boot.report.stages == {"dhcp": 2.0}


def test_nothing_was_seen(signs: Signs, boot: Boot, clock: VirtualClock) -> None:
    signs.tell(boot)
    clock.sleep(1.0)
    assert (boot.report.stages, boot.age) == ({}, 1.0)


def test_what_is_read_late_from_a_servers_log(boot: Boot, clock: VirtualClock) -> None:
    """A busy server reads in it of an address when the script is asked for already."""
    boot.begin(clock.monotonic())
    clock.sleep(3.0)
    boot.note("script")
    clock.sleep(LATE)
    boot.note("dhcp")
    assert boot.report.stages == {"script": 3.0, "dhcp": 3.0}
    clock.sleep(1.0)
    boot.note("tftp")  # the guest's own affair
    assert "tftp" not in boot.report.stages

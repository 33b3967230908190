"""Composition: which way is used when, and what is proved by whom."""

from __future__ import annotations

import pytest

from cuckoo_zfsiscsi.deadline import Cancel, Deadline
from cuckoo_zfsiscsi.errors import (
    CancelledError,
    ConfigError,
    PowerError,
    TransientPowerError,
)
from cuckoo_zfsiscsi.power import Power, PowerState
from cuckoo_zfsiscsi.power.proved import LOOK, SILENCE
from cuckoo_zfsiscsi.power.ways import Ways
from cuckoo_zfsiscsi.power.witness import Nobody
from tests.clocks import VirtualClock
from tests.power.fakes import PDU, POLITE, RELAY, WAKE, Eyes, Outlet, later, proved


def test_the_first_that_works(clock: VirtualClock) -> None:
    first, second, eyes = Outlet(), Outlet(), Eyes()
    ways = [proved(first, eyes), proved(second, eyes)]
    power: Power = Ways("pc1", ways, ways, eyes)
    proof = power.off(deadline=Deadline(60, clock=clock))
    assert (proof.peer, proof.state) == (first.peer, PowerState.OFF)
    assert second.asked == []


def test_the_second_when_the_first_fails(clock: VirtualClock) -> None:
    first, second, eyes = Outlet(), Outlet(), Eyes()
    first.error = PowerError("first: no")
    ways = [proved(first, eyes, hurried=True), proved(second, eyes)]
    assert Ways("pc1", ways, ways, eyes).off(deadline=Deadline(60, clock=clock)).peer == second.peer


def test_the_second_when_the_first_lies(clock: VirtualClock) -> None:
    """The device says off, but the host lives until its mains are cut."""
    bmc, pdu, eyes = Outlet(), Outlet(PDU), Eyes()
    eyes.sign = "it answers ARP"
    pdu.state = PowerState.ON
    pdu.effect = lambda state: setattr(eyes, "sign", "")
    ways = [proved(bmc, eyes, hurried=True), proved(pdu, eyes)]
    begin = clock.monotonic()
    proof = Ways("pc1", ways, ways, eyes).off(deadline=Deadline(60, clock=clock))
    assert proof.peer == pdu.peer
    assert clock.monotonic() - begin == 30.0  # half the time for each
    assert bmc.asked.count("off") == 3


def test_no_way_works(clock: VirtualClock) -> None:
    first, second, eyes = Outlet(), Outlet(), Eyes()
    first.error, second.error = PowerError("first: no"), PowerError("second: no", fix="look")
    ways = [proved(first, eyes), proved(second, eyes)]
    with pytest.raises(PowerError, match="pc1: no way works: first: no; second: no") as none:
        Ways("pc1", ways, ways, eyes).off(deadline=Deadline(60, clock=clock))
    assert none.value.fix == "look"


def test_everybody_lies(clock: VirtualClock) -> None:
    bmc, eyes = Outlet(), Eyes()
    eyes.sign = "its RPC answers"
    with pytest.raises(
        PowerError, match=r"says it switched off but the host lives, its RPC answers, after 60\.0 s"
    ):
        Ways("pc1", [proved(bmc, eyes)], [proved(bmc, eyes)], eyes).off(
            deadline=Deadline(60, clock=clock)
        )


def test_silence_proves_what_nobody_tells(clock: VirtualClock) -> None:
    relay, eyes = Outlet(RELAY), Eyes()
    way = proved(relay, eyes)
    proof = Ways("pc1", [way], [way], eyes).off(deadline=Deadline(60, clock=clock))
    assert SILENCE <= proof.seconds <= SILENCE + LOOK
    assert proof.why == "no sign of life for 10 s"
    assert "status" not in relay.asked


def test_silence_that_is_broken_begins_again(clock: VirtualClock) -> None:
    relay, eyes = Outlet(RELAY), Eyes()
    later(clock, 3.0, lambda: setattr(eyes, "sign", "it answers ping"))
    later(clock, 8.0, lambda: setattr(eyes, "sign", ""))
    way = proved(relay, eyes)
    proof = Ways("pc1", [way], [way], eyes).off(deadline=Deadline(60, clock=clock))
    assert 8.0 + SILENCE <= proof.seconds <= 8.0 + SILENCE + 2 * LOOK


def test_too_little_silence_is_no_proof(clock: VirtualClock) -> None:
    relay, eyes = Outlet(RELAY), Eyes()
    way = proved(relay, eyes)
    with pytest.raises(PowerError, match=r"the host has been silent for 8\.\d s only after 9\.0 s"):
        Ways("pc1", [way], [way], eyes).off(deadline=Deadline(9, clock=clock))


def test_wake_is_sent_again_until_the_host_boots(clock: VirtualClock) -> None:
    wake, pdu, eyes = Outlet(WAKE), Outlet(PDU), Eyes()
    pdu.state = PowerState.ON
    later(clock, 5.0, lambda: setattr(eyes, "booted", "dhcp request"))
    power = Ways("pc1", [proved(wake, eyes)], [proved(pdu, eyes)], eyes)
    proof = power.on(deadline=Deadline(60, clock=clock))
    assert proof.why == "first sign of boot: dhcp request"
    assert proof.requests == wake.asked.count("on") == 3


def test_wake_without_a_sign_is_not_on(clock: VirtualClock) -> None:
    wake, pdu, eyes = Outlet(WAKE), Outlet(PDU), Eyes()
    power = Ways("pc1", [proved(wake, eyes)], [proved(pdu, eyes)], eyes)
    with pytest.raises(PowerError, match=r"there is no sign of a boot after 60\.0 s"):
        power.on(deadline=Deadline(60, clock=clock))


def test_what_was_there_before_is_no_sign_of_a_boot(clock: VirtualClock) -> None:
    """A guest that lives answers ARP, and may ask for an address or a script at any time."""
    wake, pdu, eyes = Outlet(WAKE), Outlet(PDU), Eyes()
    eyes.sign = "it answers ARP"
    later(clock, 5.0, lambda: setattr(eyes, "booted", "script request"))
    power = Ways("pc1", [proved(wake, eyes)], [proved(pdu, eyes)], eyes)
    expected = r"no new sign of a boot \(it answers ARP, and so it did before\) after 60\.0 s"
    with pytest.raises(PowerError, match=expected):
        power.on(deadline=Deadline(60, clock=clock))


def test_a_new_sign_is_one(clock: VirtualClock) -> None:
    wake, pdu, eyes = Outlet(WAKE), Outlet(PDU), Eyes()
    eyes.sign = "it answers ARP"
    later(clock, 5.0, lambda: setattr(eyes, "agent", "its agent answers"))
    power = Ways("pc1", [proved(wake, eyes)], [proved(pdu, eyes)], eyes)
    proof = power.on(deadline=Deadline(60, clock=clock))
    assert proof.why == "first sign of boot: its agent answers"


def test_mains_come_back_before_the_wake(clock: VirtualClock) -> None:
    wake, pdu, eyes = Outlet(WAKE), Outlet(PDU), Eyes()
    power = Ways("pc1", [proved(wake, eyes)], [proved(pdu, eyes)], eyes)
    power.off(deadline=Deadline(60, clock=clock))
    assert pdu.state is PowerState.OFF
    wake.effect = lambda state: setattr(eyes, "booted", "x" * (pdu.state is PowerState.ON))
    power.on(deadline=Deadline(60, clock=clock))
    assert pdu.asked == ["off", "status", "status", "on"]
    power.on(deadline=Deadline(60, clock=clock))
    assert pdu.asked.count("on") == 1


def test_a_bmc_without_mains_gets_the_time_to_start(clock: VirtualClock) -> None:
    bmc, pdu, eyes = Outlet(), Outlet(PDU), Eyes()
    eyes.sign = "it answers ARP"
    pdu.effect = lambda state: setattr(eyes, "sign", "")
    ways = [proved(bmc, eyes, hurried=True), proved(pdu, eyes)]
    power = Ways("pc1", ways, ways, eyes)
    assert power.off(deadline=Deadline(60, clock=clock)).peer == pdu.peer  # the BMC has lied
    bmc.error = TransientPowerError("it starts")
    later(clock, 25.0, lambda: setattr(bmc, "error", None))
    begin = clock.monotonic()
    proof = power.on(deadline=Deadline(60, clock=clock))
    assert proof.peer == bmc.peer
    # It is asked at 0, 0.5, 1.5, 3.5 and 7.5 s, then left in peace for 10 s and 20 s.
    assert clock.monotonic() - begin == proof.seconds == 37.5
    assert pdu.asked[-1] == "on"


def test_an_outlet_alone_is_on_when_the_host_boots(clock: VirtualClock) -> None:
    pdu, eyes = Outlet(PDU), Eyes()
    pdu.effect = lambda state: setattr(eyes, "sign", "it answers ARP")
    way = proved(pdu, eyes)
    assert "ARP" in Ways("pc1", [way], [way], eyes).on(deadline=Deadline(60, clock=clock)).why


def test_the_guest_is_asked_but_never_trusted(clock: VirtualClock) -> None:
    guest, bmc, eyes = Outlet(POLITE), Outlet(), Eyes()
    eyes.sign = "its agent answers"
    bmc.effect = lambda state: setattr(eyes, "sign", "")
    ways = [proved(guest, eyes), proved(bmc, eyes)]
    power = Ways("pc1", ways, ways, eyes)
    begin = clock.monotonic()
    assert power.off(deadline=Deadline(60, clock=clock)).peer == bmc.peer
    assert clock.monotonic() - begin == POLITE.courtesy
    assert guest.asked == ["off"]
    guest.error = PowerError("the guest does not answer")
    begin = clock.monotonic()
    assert power.off(deadline=Deadline(60, clock=clock)).peer == bmc.peer
    assert clock.monotonic() == begin


def test_a_guest_that_shuts_down_is_not_waited_for_any_longer(clock: VirtualClock) -> None:
    guest, bmc, eyes = Outlet(POLITE), Outlet(), Eyes()
    eyes.sign = "its agent answers"
    later(clock, 4.25, lambda: setattr(eyes, "sign", ""))
    ways = [proved(guest, eyes), proved(bmc, eyes)]
    begin = clock.monotonic()
    Ways("pc1", ways, ways, eyes).off(deadline=Deadline(60, clock=clock))
    assert clock.monotonic() - begin == 4.5  # it is looked at twice a second


def test_status_is_asked_of_who_can_tell(clock: VirtualClock) -> None:
    bmc, pdu, eyes = Outlet(), Outlet(PDU), Eyes()
    bmc.state = PowerState.ON
    ways = [proved(bmc, eyes, hurried=True), proved(pdu, eyes)]
    power = Ways("pc1", ways, ways, eyes)
    assert power.status(deadline=Deadline(60, clock=clock)) is PowerState.ON
    bmc.error = PowerError("bmc: no")
    assert power.status(deadline=Deadline(60, clock=clock)) is PowerState.OFF
    relay = proved(Outlet(RELAY), eyes)
    blind = Ways("pc1", [relay], [relay], eyes)
    assert blind.status(deadline=Deadline(60, clock=clock)) is PowerState.OFF
    eyes.sign = "it answers ARP"
    assert blind.status(deadline=Deadline(60, clock=clock)) is PowerState.ON


def test_cancelled_is_the_end_of_all_ways(clock: VirtualClock) -> None:
    first, second, eyes = Outlet(), Outlet(), Eyes()
    first.stuck, first.state = True, PowerState.ON
    cancel, begin = Cancel(clock), clock.monotonic()
    later(clock, 7.0, lambda: cancel.set("stop"))
    ways = [proved(first, eyes), proved(second, eyes)]
    with pytest.raises(CancelledError):
        Ways("pc1", ways, ways, eyes).off(deadline=Deadline(60, cancel))
    assert second.asked == []
    assert clock.monotonic() - begin == 7.0


def test_ways_that_can_not_do() -> None:
    eyes = Eyes()
    wake, polite, bmc = (proved(Outlet(can), eyes) for can in (WAKE, POLITE, None))
    with pytest.raises(ConfigError, match="switches the host off") as none:
        Ways("pc1", [bmc], [wake], eyes)
    assert "power_off = " in none.value.fix
    with pytest.raises(ConfigError, match="switches the host off"):
        Ways("pc1", [bmc], [polite], eyes)
    with pytest.raises(ConfigError, match="switches the host on"):
        Ways("pc1", [polite], [bmc], eyes)
    nobody = Nobody()
    relay = proved(Outlet(RELAY), nobody)
    with pytest.raises(ConfigError, match="can't tell that the host is off") as blind:
        Ways("pc1", [bmc], [relay], nobody)
    assert "power_signs" in blind.value.fix

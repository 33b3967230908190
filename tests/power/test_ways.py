"""Composition: which way is used when, and what is proved by whom."""

from __future__ import annotations

import threading
import time

import pytest

from cuckoo_zfsiscsi.deadline import Cancel, Deadline
from cuckoo_zfsiscsi.errors import (
    CancelledError,
    ConfigError,
    PowerError,
    TransientPowerError,
)
from cuckoo_zfsiscsi.power import Power, PowerState, breaker, manners
from cuckoo_zfsiscsi.power.ways import Ways
from cuckoo_zfsiscsi.power.witness import Nobody
from tests.power.fakes import PDU, POLITE, RELAY, WAKE, Eyes, Outlet, proved


def test_the_first_that_works() -> None:
    first, second, eyes = Outlet(), Outlet(), Eyes()
    ways = [proved(first, eyes), proved(second, eyes)]
    power: Power = Ways("pc1", ways, ways, eyes)
    proof = power.off(deadline=Deadline(5))
    assert (proof.peer, proof.state) == (first.peer, PowerState.OFF)
    assert second.asked == []


def test_the_second_when_the_first_fails() -> None:
    first, second, eyes = Outlet(), Outlet(), Eyes()
    first.error = PowerError("first: no")
    ways = [proved(first, eyes, hurried=True), proved(second, eyes)]
    assert Ways("pc1", ways, ways, eyes).off(deadline=Deadline(5)).peer == second.peer


def test_the_second_when_the_first_lies() -> None:
    """The device says off, but the host lives until its mains are cut."""
    bmc, pdu, eyes = Outlet(), Outlet(PDU), Eyes()
    eyes.sign = "it answers ARP"
    pdu.state = PowerState.ON
    pdu.effect = lambda state: setattr(eyes, "sign", "")
    ways = [proved(bmc, eyes, hurried=True), proved(pdu, eyes)]
    begin = time.monotonic()
    proof = Ways("pc1", ways, ways, eyes).off(deadline=Deadline(4))
    assert proof.peer == pdu.peer
    assert 1.9 < time.monotonic() - begin < 4  # half the time for each
    assert bmc.asked.count("off") == 3


def test_no_way_works() -> None:
    first, second, eyes = Outlet(), Outlet(), Eyes()
    first.error, second.error = PowerError("first: no"), PowerError("second: no", fix="look")
    ways = [proved(first, eyes), proved(second, eyes)]
    with pytest.raises(PowerError, match="pc1: no way works: first: no; second: no") as none:
        Ways("pc1", ways, ways, eyes).off(deadline=Deadline(5))
    assert none.value.fix == "look"


def test_everybody_lies() -> None:
    bmc, eyes = Outlet(), Eyes()
    eyes.sign = "its RPC answers"
    with pytest.raises(PowerError, match=r"says it switched off but the host lives, its RPC"):
        Ways("pc1", [proved(bmc, eyes)], [proved(bmc, eyes)], eyes).off(deadline=Deadline(1))


def test_silence_proves_what_nobody_tells() -> None:
    relay, eyes = Outlet(RELAY), Eyes()
    way = proved(relay, eyes, silence=0.6)
    begin = time.monotonic()
    proof = Ways("pc1", [way], [way], eyes).off(deadline=Deadline(5))
    assert time.monotonic() - begin >= 0.6
    assert "no sign of life for" in proof.why
    assert "status" not in relay.asked


def test_silence_that_is_broken_begins_again() -> None:
    relay, eyes = Outlet(RELAY), Eyes()
    begin = time.monotonic()
    threading.Timer(0.3, setattr, (eyes, "sign", "it answers ping")).start()
    threading.Timer(0.8, setattr, (eyes, "sign", "")).start()
    way = proved(relay, eyes, silence=0.6)
    Ways("pc1", [way], [way], eyes).off(deadline=Deadline(5))
    assert time.monotonic() - begin >= 1.4


def test_too_little_silence_is_no_proof() -> None:
    relay, eyes = Outlet(RELAY), Eyes()
    way = proved(relay, eyes, silence=5.0)
    with pytest.raises(
        PowerError, match=r"the host has been silent for \d+\.\d s only after \d+\.\d s"
    ):
        Ways("pc1", [way], [way], eyes).off(deadline=Deadline(1.2))


def test_wake_is_sent_again_until_the_host_boots() -> None:
    wake, pdu, eyes = Outlet(WAKE), Outlet(PDU), Eyes()
    pdu.state = PowerState.ON
    threading.Timer(0.5, setattr, (eyes, "booted", "dhcp request")).start()
    power = Ways("pc1", [proved(wake, eyes)], [proved(pdu, eyes)], eyes)
    proof = power.on(deadline=Deadline(5))
    assert proof.why == "first sign of boot: dhcp request"
    assert wake.asked.count("on") >= 3


def test_wake_without_a_sign_is_not_on() -> None:
    wake, pdu, eyes = Outlet(WAKE), Outlet(PDU), Eyes()
    power = Ways("pc1", [proved(wake, eyes)], [proved(pdu, eyes)], eyes)
    with pytest.raises(PowerError, match=r"there is no sign of a boot after \d+\.\d s"):
        power.on(deadline=Deadline(1))


def test_mains_come_back_before_the_wake() -> None:
    wake, pdu, eyes = Outlet(WAKE), Outlet(PDU), Eyes()
    power = Ways("pc1", [proved(wake, eyes)], [proved(pdu, eyes)], eyes)
    power.off(deadline=Deadline(5))
    assert pdu.state is PowerState.OFF
    wake.effect = lambda state: setattr(eyes, "booted", "x" * (pdu.state is PowerState.ON))
    power.on(deadline=Deadline(5))
    assert pdu.asked == ["off", "status", "status", "on"]
    power.on(deadline=Deadline(5))
    assert pdu.asked.count("on") == 1


def test_a_bmc_without_mains_gets_the_time_to_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manners, "BACK_OFF", (0.1,))
    monkeypatch.setattr(breaker, "PAUSES", (0.3,))
    bmc, pdu, eyes = Outlet(), Outlet(PDU), Eyes()
    eyes.sign = "it answers ARP"
    pdu.effect = lambda state: setattr(eyes, "sign", "")
    ways = [proved(bmc, eyes, hurried=True), proved(pdu, eyes)]
    power = Ways("pc1", ways, ways, eyes)
    assert power.off(deadline=Deadline(4)).peer == pdu.peer  # the BMC has lied
    bmc.error = TransientPowerError("it starts")
    threading.Timer(2.5, setattr, (bmc, "error", None)).start()
    assert power.on(deadline=Deadline(8)).peer == bmc.peer
    assert pdu.asked[-1] == "on"


def test_an_outlet_alone_is_on_when_the_host_boots() -> None:
    pdu, eyes = Outlet(PDU), Eyes()
    pdu.effect = lambda state: setattr(eyes, "sign", "it answers ARP")
    way = proved(pdu, eyes)
    assert "ARP" in Ways("pc1", [way], [way], eyes).on(deadline=Deadline(5)).why


def test_the_guest_is_asked_but_never_trusted() -> None:
    guest, bmc, eyes = Outlet(POLITE), Outlet(), Eyes()
    eyes.sign = "its agent answers"
    bmc.effect = lambda state: setattr(eyes, "sign", "")
    ways = [proved(guest, eyes), proved(bmc, eyes)]
    begin = time.monotonic()
    power = Ways("pc1", ways, ways, eyes)
    assert power.off(deadline=Deadline(5)).peer == bmc.peer
    assert 0.9 < time.monotonic() - begin < 3
    assert guest.asked == ["off"]
    guest.error = PowerError("the guest does not answer")
    begin = time.monotonic()
    assert power.off(deadline=Deadline(5)).peer == bmc.peer
    assert time.monotonic() - begin < 0.9


def test_status_is_asked_of_who_can_tell() -> None:
    bmc, pdu, eyes = Outlet(), Outlet(PDU), Eyes()
    bmc.state = PowerState.ON
    ways = [proved(bmc, eyes, hurried=True), proved(pdu, eyes)]
    power = Ways("pc1", ways, ways, eyes)
    assert power.status(deadline=Deadline(5)) is PowerState.ON
    bmc.error = PowerError("bmc: no")
    assert power.status(deadline=Deadline(5)) is PowerState.OFF
    relay = proved(Outlet(RELAY), eyes)
    blind = Ways("pc1", [relay], [relay], eyes)
    assert blind.status(deadline=Deadline(5)) is PowerState.OFF
    eyes.sign = "it answers ARP"
    assert blind.status(deadline=Deadline(5)) is PowerState.ON


def test_cancelled_is_the_end_of_all_ways() -> None:
    first, second, eyes = Outlet(), Outlet(), Eyes()
    first.stuck, first.state = True, PowerState.ON
    cancel = Cancel()
    threading.Timer(0.3, cancel.set, ("stop",)).start()
    ways = [proved(first, eyes), proved(second, eyes)]
    with pytest.raises(CancelledError):
        Ways("pc1", ways, ways, eyes).off(deadline=Deadline(5, cancel))
    assert second.asked == []


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

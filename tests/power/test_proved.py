"""Proof, repetition and rate limit. Where a BMC is asked it is a real one, by its real driver.

Pauses go by a clock that stands still while ipmitool runs: only what the discipline itself waits
for takes time here.
"""

from __future__ import annotations

from functools import partial

import pytest

from cuckoo_zfsiscsi.deadline import Cancel, Deadline
from cuckoo_zfsiscsi.errors import (
    CancelledError,
    DeadlineExceededError,
    PowerError,
    TransientPowerError,
)
from cuckoo_zfsiscsi.power import Can, Power, PowerState
from cuckoo_zfsiscsi.power.limit import Limiter, limiter_for
from cuckoo_zfsiscsi.power.proved import QUIET, ProvedPower
from tests.clocks import VirtualClock
from tests.power.bmc import Bmc
from tests.power.fakes import Eyes, Outlet, later, proved


def power_of(bmc: Bmc, interval: float = 0.0, **options: str) -> ProvedPower:
    driver = bmc.driver(**options)
    return ProvedPower(driver, limiter_for(driver.peer), interval=interval)


def test_on_and_off(bmc: Bmc, clock: VirtualClock) -> None:
    power: Power = power_of(bmc)
    power.on(deadline=Deadline(10, clock=clock))
    assert bmc.power == "1"
    assert power.status(deadline=Deadline(10, clock=clock)) is PowerState.ON
    power.off(deadline=Deadline(10, clock=clock))
    assert bmc.power == "0"
    assert power.status(deadline=Deadline(10, clock=clock)) is PowerState.OFF


def test_off_is_asked_for_even_when_it_is_off(bmc: Bmc, clock: VirtualClock) -> None:
    power_of(bmc).off(deadline=Deadline(10, clock=clock))
    assert [what for _, what in bmc.commands()] == ["set power 0", "get power"]


def test_says_off_and_stays_on(bmc: Bmc, clock: VirtualClock) -> None:
    bmc.power = "1"
    bmc.fault("stays_on")
    begin = clock.monotonic()
    with pytest.raises(
        PowerError, match=r"says it switched off but is still on after 60\.0 s"
    ) as lie:
        power_of(bmc, interval=5.0).off(deadline=Deadline(60, clock=clock))
    assert clock.monotonic() - begin == 60.0
    assert f"ipmi://127.0.0.1:{bmc.port}" in lie.value.what
    assert lie.value.fix
    assert bmc.asked("set power 0") == Can().requests
    assert bmc.asked("get power") > Can().requests


def test_request_without_effect_is_repeated(bmc: Bmc, clock: VirtualClock) -> None:
    bmc.power = "1"
    bmc.fault("deaf")
    proof = power_of(bmc, interval=5.0).off(deadline=Deadline(60, clock=clock))
    assert bmc.power == "0"
    assert bmc.asked("set power 0") == proof.requests == 2
    # Asked for at 0 s, looked at after 5 and 10 s, asked for again after 15 s, proved after 20 s.
    assert proof.seconds == 20.0


def test_request_without_effect_is_repeated_when_it_is_due(clock: VirtualClock) -> None:
    outlet = Outlet(Can(again=4.0, requests=3))
    outlet.state, outlet.stuck = PowerState.ON, True
    with pytest.raises(PowerError, match="is still on"):
        proved(outlet).off(deadline=Deadline(60, clock=clock))
    asked = [at for what, at in zip(outlet.asked, outlet.asked_at, strict=True) if what == "off"]
    assert [at - asked[0] for at in asked] == pytest.approx([0.0, 4.0, 8.0], abs=0.4)


def test_bmc_that_comes_back_is_asked_again(bmc: Bmc, clock: VirtualClock) -> None:
    bmc.stop()
    later(clock, 1.0, bmc.start)
    proof = power_of(bmc, timeout="2").on(deadline=Deadline(30, clock=clock))
    assert bmc.power == "1"
    assert proof.seconds >= 1.5  # asked after 0, 0.5 and 1.5 s


def test_bmc_that_does_not_come_back(clock: VirtualClock) -> None:
    bmc = Outlet()
    bmc.error = TransientPowerError("it does not answer")
    begin = clock.monotonic()
    with pytest.raises(PowerError, match=r"does not answer, asked 4 times in 6\.0 s") as silent:
        proved(bmc).off(deadline=Deadline(6, clock=clock))
    assert clock.monotonic() - begin == 6.0
    assert not isinstance(silent.value, TransientPowerError)


def test_state_that_cannot_be_read_is_not_claimed(bmc: Bmc, clock: VirtualClock) -> None:
    """The BMC took the request and died: neither on nor off is known."""
    bmc.power = "1"
    later(clock, 0.5, bmc.stop)
    with pytest.raises(PowerError, match="does not answer") as unknown:
        power_of(bmc, interval=1.0, timeout="3").off(deadline=Deadline(2, clock=clock))
    assert bmc.asked("set power 0")
    assert "still" not in str(unknown.value)


def test_wrong_password_is_tried_once(bmc: Bmc, clock: VirtualClock) -> None:
    driver = bmc.driver(password="wrong")
    begin = clock.monotonic()
    with pytest.raises(PowerError, match="refuses the user or the password"):
        ProvedPower(driver, Limiter(), interval=5.0).off(deadline=Deadline(20, clock=clock))
    assert clock.monotonic() == begin


def test_unknown_answer_is_never_off(bmc: Bmc, clock: VirtualClock) -> None:
    bmc.fault("crash")
    with pytest.raises(PowerError, match="Unspecified error"):
        power_of(bmc).off(deadline=Deadline(10, clock=clock))


def test_off_is_silence_over_a_time(clock: VirtualClock) -> None:
    """The device's word alone is not enough, and the look takes as long as it is told to."""
    outlet, eyes = Outlet(), Eyes()
    eyes.sign = "it answers ARP"
    later(clock, 5.0, lambda: setattr(eyes, "sign", ""))
    proof = proved(outlet, eyes).off(deadline=Deadline(60, clock=clock))
    assert proof.seconds >= 5.0
    assert proof.why == f"the device says off, and no sign of life for {QUIET:g} s"
    assert eyes.asked_for == QUIET


def test_who_answers_in_its_place_is_told(clock: VirtualClock) -> None:
    outlet, eyes = Outlet(), Eyes()
    eyes.others = ("aa:bb, the card of pc2, answers ARP for it",)
    proof = proved(outlet, eyes).off(deadline=Deadline(60, clock=clock))
    assert proof.others == eyes.others
    assert "(not counted: aa:bb, the card of pc2, answers ARP for it)" in proof.why


def test_cancelled_while_watching(bmc: Bmc, clock: VirtualClock) -> None:
    bmc.power = "1"
    bmc.fault("stays_on")
    cancel, begin = Cancel(clock), clock.monotonic()
    later(clock, 12.0, lambda: cancel.set("stop"))
    with pytest.raises(CancelledError):
        power_of(bmc, interval=5.0).off(deadline=Deadline(60, cancel))
    assert clock.monotonic() - begin == 12.0


def test_two_hosts_on_one_bmc_share_its_pace(clock: VirtualClock) -> None:
    bmc, limiter = Outlet(), Limiter()
    hosts = [ProvedPower(bmc, limiter, interval=1.0) for _ in range(2)]
    calls = [clock.call(partial(host.on, deadline=Deadline(20, clock=clock))) for host in hosts]
    begin = clock.monotonic()
    for call in calls:
        clock.result(call)
    assert sorted(bmc.asked) == ["on", "on", "status", "status"]
    assert [at - begin for at in bmc.asked_at] == pytest.approx([0.0, 1.0, 2.0, 3.0])


def test_dead_bmc_delays_no_other(bmc: Bmc, other_bmc: Bmc, clock: VirtualClock) -> None:
    with bmc.frozen():
        dead = clock.call(lambda: power_of(bmc, timeout="1").off(deadline=Deadline(2, clock=clock)))
        clock.sleep(0.25)  # it has been asked, and is to be asked again
        begin = clock.monotonic()
        power_of(other_bmc).on(deadline=Deadline(10, clock=clock))
        assert clock.monotonic() == begin
        assert not dead.done()
        with pytest.raises(PowerError):
            clock.result(dead)
    assert other_bmc.power == "1"


def test_waiter_behind_a_dead_bmc_can_be_cancelled(clock: VirtualClock) -> None:
    bmc, limiter, cancel = Outlet(), Limiter(), Cancel(clock)
    bmc.fault = lambda deadline: deadline.sleep(60.0, "an answer")
    first, second = (ProvedPower(bmc, limiter, interval=0.0) for _ in range(2))
    holds = clock.call(lambda: first.off(deadline=Deadline(50, clock=clock)))
    clock.sleep(1.0)
    later(clock, 3.0, lambda: cancel.set("stop"))
    begin = clock.monotonic()
    with pytest.raises(CancelledError):
        second.status(deadline=Deadline(20, cancel))
    assert clock.monotonic() - begin == 3.0
    assert bmc.asked == ["off"]
    with pytest.raises(DeadlineExceededError, match="no answer, it took longer than 50"):
        clock.result(holds)
    assert clock.monotonic() - begin == 49.0


def test_aimed_at_the_network_before_each_power_on(bmc: Bmc, clock: VirtualClock) -> None:
    driver = bmc.driver(boot="network")
    power = ProvedPower(driver, limiter_for(driver.peer), interval=0.0)
    power.on(deadline=Deadline(10, clock=clock))
    power.off(deadline=Deadline(10, clock=clock))
    switched = [what for _, what in bmc.commands() if what.startswith("set")]
    assert switched == ["set boot pxe", "set power 1", "set power 0"]

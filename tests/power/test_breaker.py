from __future__ import annotations

import pytest

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import PowerError, TransientPowerError
from cuckoo_zfsiscsi.power import PowerState
from cuckoo_zfsiscsi.power.breaker import OPENS_AFTER, PAUSES, Breaker
from cuckoo_zfsiscsi.power.limit import Limiter
from cuckoo_zfsiscsi.power.manners import BACK_OFF
from cuckoo_zfsiscsi.power.proved import ProvedPower
from tests.clocks import VirtualClock
from tests.power.fakes import Outlet

TO_OPEN = sum(BACK_OFF[: OPENS_AFTER - 1])
"""Seconds in which a device that fails at once has failed so often that it is left in peace."""


def test_opens_and_closes() -> None:
    one, now = Breaker(), 100.0
    for _ in range(OPENS_AFTER - 1):
        one.failed("silent", now)
    assert one.wait(now) == 0
    one.failed("silent", now)
    assert one.wait(now) == PAUSES[0]
    assert (one.failures, one.last) == (OPENS_AFTER, "silent")
    now += PAUSES[0]
    assert one.wait(now) == 0
    one.failed("silent", now)
    assert one.wait(now) == PAUSES[1]
    one.succeeded()
    assert (one.wait(now), one.failures) == (0, 0)


def test_the_last_pause_stays() -> None:
    one, now = Breaker(), 100.0
    pauses = []
    for _ in range(OPENS_AFTER + len(PAUSES)):
        now += one.wait(now)
        one.failed("silent", now)
        pauses.append(one.wait(now))
    assert pauses == [0.0] * (OPENS_AFTER - 1) + [*PAUSES, PAUSES[-1]]


def dead() -> Outlet:
    outlet = Outlet()
    outlet.error = TransientPowerError("the BMC does not answer")
    return outlet


def test_a_dead_device_is_left_in_peace(clock: VirtualClock) -> None:
    outlet, limiter = dead(), Limiter()
    one, other = (ProvedPower(outlet, limiter, interval=0.0, hurried=True) for _ in range(2))
    with pytest.raises(PowerError, match=r"does not answer, asked 5 times in 15\.5 s"):
        one.off(deadline=Deadline(60, clock=clock))
    assert len(outlet.asked) == OPENS_AFTER
    with pytest.raises(PowerError, match="failed 5 times in a row") as peace:
        other.off(deadline=Deadline(60, clock=clock))
    assert not isinstance(peace.value, TransientPowerError)
    assert peace.value.fix
    assert len(outlet.asked) == OPENS_AFTER


def test_one_try_when_the_pause_is_over(clock: VirtualClock) -> None:
    outlet, limiter = dead(), Limiter()
    power = ProvedPower(outlet, limiter, interval=0.0, hurried=True)
    with pytest.raises(PowerError):
        power.off(deadline=Deadline(60, clock=clock))
    clock.sleep(PAUSES[0])
    with pytest.raises(PowerError):
        power.off(deadline=Deadline(5, clock=clock))
    assert len(outlet.asked) == OPENS_AFTER + 1
    clock.sleep(PAUSES[1])
    outlet.error = None
    assert power.off(deadline=Deadline(5, clock=clock)).state is PowerState.OFF
    assert limiter.breaker.failures == 0


def test_who_has_no_other_way_waits_for_it(clock: VirtualClock) -> None:
    outlet, limiter = dead(), Limiter()
    power = ProvedPower(outlet, limiter, interval=0.0)
    begin = clock.monotonic()
    with pytest.raises(PowerError, match="does not answer, asked 5 times"):
        power.off(deadline=Deadline(TO_OPEN + 9, clock=clock))
    with pytest.raises(PowerError, match="left in peace"):  # the pause outlasts the deadline
        power.off(deadline=Deadline(0.5, clock=clock))
    outlet.error = None
    power.off(deadline=Deadline(60, clock=clock))
    assert clock.monotonic() - begin == TO_OPEN + PAUSES[0]


def test_a_no_is_no_failure_of_the_device(clock: VirtualClock) -> None:
    outlet, limiter = Outlet(), Limiter()
    outlet.error = PowerError("wrong password")
    for _ in range(OPENS_AFTER + 1):
        with pytest.raises(PowerError, match="wrong password"):
            ProvedPower(outlet, limiter, interval=0.0).off(deadline=Deadline(5, clock=clock))
    assert limiter.breaker.wait(clock.monotonic()) == 0

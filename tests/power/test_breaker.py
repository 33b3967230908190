from __future__ import annotations

import time

import pytest

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import PowerError, TransientPowerError
from cuckoo_zfsiscsi.power import PowerState, breaker, manners
from cuckoo_zfsiscsi.power.breaker import OPENS_AFTER, Breaker
from cuckoo_zfsiscsi.power.limit import Limiter
from cuckoo_zfsiscsi.power.proved import ProvedPower
from tests.power.fakes import Outlet


class Clock:
    """What the breaker reads; it goes when a test says so."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(breaker, "time", made)
    return made


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breaker, "PAUSES", (2.0, 4.0))
    monkeypatch.setattr(manners, "BACK_OFF", (0.01,))


def test_opens_and_closes(clock: Clock) -> None:
    one = Breaker()
    for _ in range(OPENS_AFTER - 1):
        one.failed("silent")
    assert one.wait == 0
    one.failed("silent")
    assert one.wait == 2.0
    assert (one.failures, one.last) == (OPENS_AFTER, "silent")
    clock.now += 2.0
    assert one.wait == 0
    one.failed("silent")
    assert one.wait == 4.0
    one.succeeded()
    assert (one.wait, one.failures) == (0, 0)


def dead() -> Outlet:
    outlet = Outlet()
    outlet.error = TransientPowerError("the BMC does not answer")
    return outlet


@pytest.mark.usefixtures("clock")
def test_a_dead_device_is_left_in_peace() -> None:
    outlet, limiter = dead(), Limiter()
    one, other = (ProvedPower(outlet, limiter, interval=0.0, hurried=True) for _ in range(2))
    with pytest.raises(PowerError, match=r"does not answer, asked 5 times in \d"):
        one.off(deadline=Deadline(5))
    assert len(outlet.asked) == OPENS_AFTER
    with pytest.raises(PowerError, match="failed 5 times in a row") as peace:
        other.off(deadline=Deadline(5))
    assert not isinstance(peace.value, TransientPowerError)
    assert peace.value.fix
    assert len(outlet.asked) == OPENS_AFTER


def test_one_try_when_the_pause_is_over(clock: Clock) -> None:
    outlet, limiter = dead(), Limiter()
    power = ProvedPower(outlet, limiter, interval=0.0, hurried=True)
    with pytest.raises(PowerError):
        power.off(deadline=Deadline(5))
    clock.now += 2.0
    with pytest.raises(PowerError):
        power.off(deadline=Deadline(5))
    assert len(outlet.asked) == OPENS_AFTER + 1
    clock.now += 4.0
    outlet.error = None
    assert power.off(deadline=Deadline(5)).state is PowerState.OFF
    assert limiter.breaker.failures == 0


def test_who_has_no_other_way_waits_for_it() -> None:
    outlet, limiter = dead(), Limiter()
    power = ProvedPower(outlet, limiter, interval=0.0)
    begin = time.monotonic()
    with pytest.raises(PowerError, match="does not answer, asked 5 times"):
        power.off(deadline=Deadline(1))
    with pytest.raises(PowerError, match="left in peace"):  # the pause outlasts the deadline
        power.off(deadline=Deadline(0.05))
    assert time.monotonic() - begin < 1.9
    outlet.error = None
    power.off(deadline=Deadline(5))
    assert time.monotonic() - begin > 1.9


def test_a_no_is_no_failure_of_the_device() -> None:
    outlet, limiter = Outlet(), Limiter()
    outlet.error = PowerError("wrong password")
    for _ in range(OPENS_AFTER + 1):
        with pytest.raises(PowerError, match="wrong password"):
            ProvedPower(outlet, limiter, interval=0.0).off(deadline=Deadline(5))
    assert limiter.breaker.wait == 0

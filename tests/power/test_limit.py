from __future__ import annotations

from functools import partial

import pytest

from cuckoo_zfsiscsi.deadline import Cancel, Deadline
from cuckoo_zfsiscsi.errors import CancelledError, DeadlineExceededError
from cuckoo_zfsiscsi.power.limit import Limiter, limiter_for
from tests.clocks import VirtualClock
from tests.power.fakes import later


def test_one_per_peer() -> None:
    assert limiter_for("ipmi://10.0.0.1:623") is limiter_for("ipmi://10.0.0.1:623")
    assert limiter_for("ipmi://10.0.0.1:623") is not limiter_for("ipmi://10.0.0.2:623")


def test_pause_is_kept_from_end_to_begin(clock: VirtualClock) -> None:
    limiter = Limiter()
    with limiter.turn(3.0, deadline=Deadline(5, clock=clock), what="first"):
        clock.sleep(1.0)
        end = clock.monotonic()
    with limiter.turn(3.0, deadline=Deadline(5, clock=clock), what="second"):
        assert clock.monotonic() - end == 3.0


def test_first_come_first_served(clock: VirtualClock) -> None:
    limiter = Limiter()
    order: list[int] = []
    inside: list[int] = []

    def take(number: int) -> None:
        with limiter.turn(0.0, deadline=Deadline(60, clock=clock), what="turn"):
            assert not inside, "two at a time"
            inside.append(number)
            order.append(number)
            clock.sleep(1.0)
            inside.remove(number)

    with limiter.turn(0.0, deadline=Deadline(60, clock=clock), what="turn"):
        takers = []
        for number in range(6):
            takers.append(clock.call(partial(take, number)))
            clock.sleep(1.0)
        assert order == []
    for taker in takers:
        clock.result(taker)
    assert order == list(range(6))


def test_who_gives_up_leaves_the_queue(clock: VirtualClock) -> None:
    limiter = Limiter()
    cancel = Cancel(clock)
    with limiter.turn(0.0, deadline=Deadline(10, clock=clock), what="turn"):
        later(clock, 1.0, lambda: cancel.set("stop"))
        begin = clock.monotonic()
        with pytest.raises(CancelledError):
            limiter.turn(0.0, deadline=Deadline(10, cancel), what="turn").__enter__()
        assert clock.monotonic() - begin == 1.0
        begin = clock.monotonic()
        with pytest.raises(DeadlineExceededError):
            limiter.turn(0.0, deadline=Deadline(4, clock=clock), what="turn").__enter__()
        assert clock.monotonic() - begin == 4.0
    begin = clock.monotonic()
    with limiter.turn(0.0, deadline=Deadline(10, clock=clock), what="turn"):
        assert clock.monotonic() == begin


def test_error_inside_gives_the_turn_back(clock: VirtualClock) -> None:
    limiter, deadline = Limiter(), Deadline(10, clock=clock)
    with pytest.raises(ZeroDivisionError), limiter.turn(0.0, deadline=deadline, what="turn"):
        raise ZeroDivisionError
    with limiter.turn(0.0, deadline=deadline, what="turn"):
        assert deadline.remaining == 10.0

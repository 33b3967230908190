"""Deadlines and the wish to stop, by a clock that is exact."""

from __future__ import annotations

import pytest

from cuckoo_zfsiscsi.clock import SYSTEM
from cuckoo_zfsiscsi.deadline import Cancel, Deadline
from cuckoo_zfsiscsi.errors import CancelledError, DeadlineExceededError
from tests.clocks import VirtualClock


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


def test_what_remains_runs_out_and_stays_there(clock: VirtualClock) -> None:
    deadline = Deadline(10.0, clock=clock)
    left = []
    for _ in range(4):
        left.append(deadline.remaining)
        clock.sleep(4.0)
    assert left == [10.0, 6.0, 2.0, 0.0]
    assert deadline.seconds == 10.0


def test_check_raises_from_the_end_on(clock: VirtualClock) -> None:
    deadline = Deadline(10.0, clock=clock)
    clock.sleep(9.5)
    deadline.check("a nap")
    clock.sleep(0.5)
    with pytest.raises(DeadlineExceededError, match=r"^a nap took longer than 10\.0 s$"):
        deadline.check("a nap")


@pytest.mark.parametrize("seconds", [0.0, -1.0])
def test_no_time_at_all(clock: VirtualClock, seconds: float) -> None:
    begin, deadline = clock.monotonic(), Deadline(seconds, clock=clock)
    assert deadline.remaining == 0.0
    with pytest.raises(DeadlineExceededError):
        deadline.check("a nap")
    with pytest.raises(DeadlineExceededError):
        deadline.sleep(5.0, "a nap")
    assert clock.monotonic() == begin


def test_sleep_ends_with_the_deadline(clock: VirtualClock) -> None:
    begin, deadline = clock.monotonic(), Deadline(10.0, clock=clock)
    deadline.sleep(6.0, "a nap")
    assert clock.monotonic() - begin == 6.0
    with pytest.raises(DeadlineExceededError, match="a nap took longer"):
        deadline.sleep(6.0, "a nap")
    assert clock.monotonic() - begin == 10.0


def test_sleep_ends_with_the_wish_to_stop(clock: VirtualClock) -> None:
    begin, cancel = clock.monotonic(), Cancel(clock)
    sleeper = clock.call(lambda: Deadline(60.0, cancel).sleep(50.0, "a nap"))
    clock.sleep(3.0)
    cancel.set("it was enough")
    with pytest.raises(CancelledError, match=r"^a nap: given up, it was enough$"):
        clock.result(sleeper)
    assert clock.monotonic() - begin == 3.0
    with pytest.raises(CancelledError):
        Deadline(60.0, cancel).sleep(50.0, "another one")
    assert clock.monotonic() - begin == 3.0


def test_within_is_never_later(clock: VirtualClock) -> None:
    deadline = Deadline(10.0, clock=clock)
    short, long = deadline.within(4.0), deadline.within(40.0)
    assert (short.remaining, long.remaining) == (4.0, 10.0)
    clock.sleep(7.0)
    late = deadline.within(40.0)
    assert (short.remaining, long.remaining, late.remaining) == (0.0, 3.0, 3.0)
    with pytest.raises(DeadlineExceededError, match=r"took longer than 4\.0 s"):
        short.check("a part")
    deadline.check("the whole")
    clock.sleep(3.0)
    assert deadline.within(40.0).remaining == 0.0


def test_within_is_cancelled_with_the_whole(clock: VirtualClock) -> None:
    deadline = Deadline(10.0, clock=clock)
    part = deadline.within(4.0).within(2.0)
    assert part.cancel is deadline.cancel
    deadline.cancel.set("enough")
    with pytest.raises(CancelledError, match="a part: given up, enough"):
        part.check("a part")


def test_a_wish_to_stop_is_told_rather_than_a_time_that_is_up(clock: VirtualClock) -> None:
    """It is what happened first, or the reason why nobody waits any more."""
    deadline = Deadline(1.0, clock=clock)
    deadline.cancel.set("enough")
    clock.sleep(2.0)
    with pytest.raises(CancelledError):
        deadline.check("a nap")


def test_the_first_reason_stays(clock: VirtualClock) -> None:
    cancel = Cancel(clock)
    assert not cancel
    assert cancel.reason == ""
    cancel.set("the first")
    cancel.set("the second")
    assert cancel
    assert cancel.reason == "the first"


def test_all_who_wait_for_a_cancel_hear_of_it_at_once(clock: VirtualClock) -> None:
    begin, cancel = clock.monotonic(), Cancel(clock)
    waits = [clock.call(lambda: (cancel.wait(60.0), clock.monotonic())) for _ in range(3)]
    clock.sleep(5.0)
    cancel.set("enough")
    assert [clock.result(one) for one in waits] == [(True, begin + 5.0)] * 3
    assert cancel.wait(60.0)
    assert clock.monotonic() == begin + 5.0


def test_a_cancel_that_never_comes(clock: VirtualClock) -> None:
    begin = clock.monotonic()
    assert not Cancel(clock).wait(7.0)
    assert clock.monotonic() - begin == 7.0


def test_a_deadline_goes_by_the_clock_of_its_cancel(clock: VirtualClock) -> None:
    cancel = Cancel(clock)
    for deadline in (Deadline(1.0, cancel), Deadline(1.0, cancel, clock=SYSTEM)):
        assert deadline.clock is clock
        assert deadline.within(0.5).clock is clock
    alone = Deadline(1.0, clock=clock)
    assert (alone.clock, alone.cancel.clock) == (clock, clock)
    assert Deadline(1.0).clock is SYSTEM
    assert Cancel().clock is SYSTEM

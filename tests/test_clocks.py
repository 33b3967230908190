"""The clock that tests hold: time passes when everybody waits, and never while anyone works."""

from __future__ import annotations

import threading
from concurrent.futures import Future

import pytest

from cuckoo_zfsiscsi.at_once import at_once
from cuckoo_zfsiscsi.clock import SystemClock
from cuckoo_zfsiscsi.deadline import Cancel, Deadline
from cuckoo_zfsiscsi.errors import CancelledError, DeadlineExceededError
from tests import clocks
from tests.clocks import RealClock, VirtualClock
from tests.waiting import wait


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


def test_a_year_passes_at_once_and_exactly(clock: VirtualClock) -> None:
    begin = clock.monotonic()
    clock.sleep(365 * 86400.0)
    assert clock.monotonic() - begin == 365 * 86400.0


def test_threads_wake_in_the_order_of_their_times(clock: VirtualClock) -> None:
    begin, woken = clock.monotonic(), list[tuple[str, float]]()

    def sleep(name: str, seconds: float) -> None:
        for _ in range(2):
            clock.sleep(seconds)
            woken.append((name, clock.monotonic() - begin))

    for name, seconds in (("slow", 7.0), ("quick", 3.0)):
        clock.thread(lambda name=name, seconds=seconds: sleep(name, seconds), name).start()  # type: ignore[misc]
    clock.until(lambda: len(woken) == 4, "both have slept twice")
    assert woken == [("quick", 3.0), ("quick", 6.0), ("slow", 7.0), ("slow", 14.0)]
    assert clock.monotonic() - begin == 14.0


def test_time_stands_still_while_a_thread_works(clock: VirtualClock) -> None:
    hold, begin = threading.Event(), clock.monotonic()
    clock.thread(hold.wait, "works").start()
    sleeper = clock.call(lambda: clock.sleep(1.0))
    threading.Event().wait(0.1)
    assert clock.monotonic() == begin
    assert not sleeper.done()
    hold.set()
    clock.result(sleeper)
    assert clock.monotonic() - begin == 1.0


def test_a_notified_thread_works_from_that_moment(clock: VirtualClock) -> None:
    condition, begin = clock.condition(), clock.monotonic()

    def wait() -> tuple[bool, float]:
        with condition:
            return condition.wait(10.0), clock.monotonic()

    waiting = clock.call(wait)
    clock.sleep(2.0)
    with condition:
        condition.notify()
    assert clock.result(waiting) == (True, begin + 2.0)


def test_a_thread_just_woken_works_before_it_knows(clock: VirtualClock) -> None:
    begin, me = clock.monotonic(), clock._lie_down(None)
    assert clock.notify(me)
    sleeper = clock.call(lambda: clock.sleep(30.0))
    wait(lambda: clock._sleepers, what="it never slept")
    assert not clock._pass(me)
    assert clock.monotonic() == begin
    clock.result(sleeper)
    assert clock.monotonic() - begin == 30.0


def test_a_wait_in_vain_ends_at_its_time(clock: VirtualClock) -> None:
    condition, begin = clock.condition(), clock.monotonic()
    with condition:
        assert condition.wait(4.0) is False
        assert condition.wait_for(lambda: False, 5.0) is False
    assert clock.monotonic() - begin == 9.0


def test_deadline_and_cancel_go_by_it(clock: VirtualClock) -> None:
    deadline = Deadline(60.0, clock=clock)
    deadline.sleep(59.0, "a nap")
    assert deadline.remaining == 1.0
    with pytest.raises(DeadlineExceededError, match=r"a nap took longer than 60\.0 s"):
        deadline.sleep(5.0, "a nap")
    cancel = Cancel(clock)
    sleeper = clock.call(lambda: Deadline(60.0, cancel).sleep(50.0, "a nap"))
    clock.sleep(3.0)
    begin = clock.monotonic()
    cancel.set("it was enough")
    with pytest.raises(CancelledError, match="it was enough"):
        clock.result(sleeper)
    assert clock.monotonic() == begin


def test_calls_at_once_take_as_long_as_the_longest(clock: VirtualClock) -> None:
    begin = clock.monotonic()

    def fail() -> None:
        clock.sleep(2.0)
        raise ValueError("no")

    slow, failed = at_once([lambda: clock.sleep(5.0), fail], clock, "look")
    assert clock.monotonic() - begin == 5.0
    assert slow.result() is None
    with pytest.raises(ValueError, match="no"):
        failed.result()


def test_what_never_comes_is_told(clock: VirtualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clocks, "HANG", 0.05)
    for any_clock in (clock, RealClock()):
        with pytest.raises(AssertionError, match=r"never.*: a miracle; seen: nothing"):
            any_clock.until(lambda: False, "a miracle", lambda: "nothing")


def test_results_of_futures(clock: VirtualClock) -> None:
    for any_clock in (clock, RealClock()):
        done: Future[int] = Future()
        done.set_result(7)
        assert any_clock.result(done) == 7


def test_the_system_clock() -> None:
    clock, ran = SystemClock(), threading.Event()
    begin = clock.monotonic()
    clock.sleep(0.01)
    assert clock.monotonic() - begin >= 0.01
    thread = clock.thread(ran.set, "test")
    thread.start()
    thread.join()
    assert ran.is_set()
    assert not thread.is_alive()
    with (condition := clock.condition()):
        assert not condition.wait(0.01)

"""Clocks of tests: one whose time passes at once when everybody waits for it, and the real one.

Both tell a test the same way that something has happened, so fixtures can be used with either.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Protocol, TypeVar

from cuckoo_zfsiscsi.clock import Clock, Condition, SystemClock, Thread
from tests.waiting import HANG, wait

T = TypeVar("T")

STEP = 0.0005
"""Real seconds between two looks at threads that work."""
LOOK = 0.02
"""Real seconds after which a thread that waits looks whether time may pass."""


class AnyClock(Clock, Protocol):
    """A clock, and a test's waits by it. Each says what it waited for when it gives up."""

    def until(
        self, true: Callable[[], object], what: str, seen: Callable[[], object] = ...
    ) -> None:
        """Wait until something is true.

        Args:
            true: tells.
            what: completes "never: ...".
            seen: what to show when it never was.
        """
        ...

    def result(self, future: Future[T]) -> T:
        """Wait for a future; return its result, or raise its error."""
        ...


class RealClock(SystemClock):
    """Implements AnyClock where something real is waited for. Its bound is about hangs alone."""

    def until(
        self, true: Callable[[], object], what: str, seen: Callable[[], object] = str
    ) -> None:
        """As AnyClock has it."""
        wait(true, HANG, f"never: {what}", seen)

    def result(self, future: Future[T]) -> T:
        """As AnyClock has it."""
        return future.result(HANG)


class VirtualClock:
    """Implements AnyClock. Its time stands still while any of its threads works.

    When all of them wait, it goes on at once to the next moment for which one does. Its threads
    are the one that made it, those made by thread(), and whoever was woken by it. A thread that
    waits for something else (a file, a real lock, a queue) works, as far as the clock knows.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now = 1000.0
        self._working = {threading.current_thread()}
        self._sleepers: list[_Sleeper] = []

    def monotonic(self) -> float:
        """As Clock has it."""
        return self._now

    def sleep(self, seconds: float) -> None:
        """As Clock has it; by a test: let so much time pass, and others do what they do then."""
        sleeper = self._lie_down(seconds)
        self._sleep(sleeper)

    def condition(self) -> Condition:
        """As Clock has it."""
        return _Condition(self)

    def thread(self, target: Callable[[], object], name: str) -> Thread:
        """As Clock has it."""
        return _Thread(self, target, name)

    def until(
        self, true: Callable[[], object], what: str, seen: Callable[[], object] = str
    ) -> None:
        """As AnyClock has it; time passes only while it is false and all others wait."""
        end, begin = time.monotonic() + HANG, self._now
        while not true():
            if not self._others_work() and not true() and self._pass():
                continue  # what the pass has brought, another look will tell
            if time.monotonic() > end:
                raise AssertionError(f"never in {self._now - begin:g} s: {what}; seen: {seen()}")
            time.sleep(STEP)

    def result(self, future: Future[T]) -> T:
        """As AnyClock has it."""
        done = self.condition()

        def tell(_: Future[T]) -> None:
            with done:
                done.notify_all()

        future.add_done_callback(tell)
        with done:
            while not future.done():
                done.wait()
        return future.result()

    def call(self, function: Callable[[], T], name: str = "beside") -> Future[T]:
        """Make a call in a thread of this clock; return what becomes of it."""
        future: Future[T] = Future()

        def work() -> None:
            try:
                future.set_result(function())
            except BaseException as error:  # noqa: BLE001 - for whoever asks for the result
                future.set_exception(error)

        self.thread(work, name).start()
        return future

    def others(self) -> list[str]:
        """Return the names of its threads, but for who asks: those that have not ended."""
        with self._lock:
            threads = self._working | {sleeper.thread for sleeper in self._sleepers}
            threads -= {threading.current_thread()}
            return sorted(thread.name for thread in threads if thread.is_alive())

    def sleeping(self) -> list[str]:
        """Return the names of its threads that wait by it."""
        with self._lock:
            return sorted(sleeper.thread.name for sleeper in self._sleepers)

    def begins(self, thread: threading.Thread) -> None:
        """Count a thread in: it works."""
        with self._lock:
            self._working.add(thread)

    def ends(self) -> None:
        """Count the thread that calls out."""
        with self._lock:
            self._working.discard(threading.current_thread())

    def _others_work(self) -> bool:
        with self._lock:
            return self._do_others_work()

    def _do_others_work(self) -> bool:
        self._working = {thread for thread in self._working if thread.is_alive()}
        return bool(self._working - {threading.current_thread()})

    def _pass(self, me: _Sleeper | None = None) -> bool:
        """Go on to the next moment for which anyone waits; False if there is none, or not yet.

        Args:
            me: who asks, if it waits itself: once woken, it works, though it may not know yet.
        """
        with self._lock:
            times = [one.at for one in self._sleepers if one.at is not None]
            if not times or (me and me.woken.is_set()) or self._do_others_work():
                return False
            self._now = max(self._now, min(times))
            for one in list(self._sleepers):
                if one.at is not None and one.at <= self._now:
                    self._wake(one)
            return True

    def _lie_down(self, seconds: float | None) -> _Sleeper:
        with self._lock:
            at = None if seconds is None else self._now + max(0.0, seconds)
            sleeper = _Sleeper(threading.current_thread(), at)
            self._sleepers.append(sleeper)
            self._working.discard(sleeper.thread)
        return sleeper

    def _sleep(self, sleeper: _Sleeper) -> None:
        end = time.monotonic() + HANG
        while not sleeper.woken.is_set():
            if not self._pass(sleeper):
                sleeper.woken.wait(LOOK)
            if time.monotonic() > end:
                self.notify(sleeper)
                raise AssertionError(f"{sleeper.thread.name} waits for what nobody does")

    def notify(self, sleeper: _Sleeper) -> bool:
        """Wake it, before its time; False if that has come already."""
        with self._lock:
            if sleeper not in self._sleepers:
                return False
            sleeper.notified = True
            self._wake(sleeper)
            return True

    def _wake(self, sleeper: _Sleeper) -> None:
        """Let it work from now on: time stands still until it runs, whenever that is."""
        self._sleepers.remove(sleeper)
        self._working.add(sleeper.thread)
        sleeper.woken.set()


class _Sleeper:
    """A thread that waits, until a moment or until it is woken."""

    def __init__(self, thread: threading.Thread, at: float | None) -> None:
        self.thread, self.at = thread, at
        self.woken = threading.Event()
        self.notified = False


class _Condition(threading.Condition):
    def __init__(self, clock: VirtualClock) -> None:
        super().__init__()
        self._clock = clock
        self._sleeping: deque[_Sleeper] = deque()

    def wait(self, timeout: float | None = None) -> bool:
        assert self._is_owned()  # type: ignore[attr-defined]
        sleeper = self._clock._lie_down(timeout)
        self._sleeping.append(sleeper)
        held = self._release_save()  # type: ignore[attr-defined]
        try:
            self._clock._sleep(sleeper)
        finally:
            self._acquire_restore(held)  # type: ignore[attr-defined]
            with contextlib.suppress(ValueError):
                self._sleeping.remove(sleeper)
        return sleeper.notified

    def wait_for(self, predicate: Callable[[], T], timeout: float | None = None) -> T:
        end = None if timeout is None else self._clock.monotonic() + timeout
        while not (result := predicate()):
            left = None if end is None else end - self._clock.monotonic()
            if left is not None and left <= 0:
                break
            self.wait(left)
        return result

    def notify(self, n: int = 1) -> None:
        while n and self._sleeping:
            n -= self._clock.notify(self._sleeping.popleft())

    def notify_all(self) -> None:
        self.notify(len(self._sleeping))


class _Thread(threading.Thread):
    def __init__(self, clock: VirtualClock, target: Callable[[], object], name: str) -> None:
        super().__init__(name=name, daemon=True)
        self._clock, self._act = clock, target
        self._ended = clock.condition()
        self._has_begun = self._has_ended = False

    def start(self) -> None:
        self._has_begun = True
        self._clock.begins(self)
        super().start()

    def run(self) -> None:
        try:
            self._act()
        finally:
            with self._ended:
                self._has_ended = True
                self._ended.notify_all()
            self._clock.ends()

    def join(self, timeout: float | None = None) -> None:
        with self._ended:
            self._ended.wait_for(lambda: self._has_ended, timeout)

    def is_alive(self) -> bool:
        return self._has_begun and not self._has_ended

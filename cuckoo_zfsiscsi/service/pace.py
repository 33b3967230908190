"""The pace of hosts that boot: hundreds at once must not keep the service from answering.

Each has a thread of its own; in Python only one of them runs at a time, and those that wait for it
slow down the one that answers requests.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import threading
from collections.abc import Callable, Iterator

from cuckoo_zfsiscsi.clock import SYSTEM, Clock, Thread
from cuckoo_zfsiscsi.deadline import Cancel, Deadline
from cuckoo_zfsiscsi.errors import DeadlineExceededError

RATE = 50.0
"""Looks a second, of all hosts together. One asks the target, which takes about a millisecond."""
AT_ONCE = 6
"""Hosts that are reset at the same time: what they do is mostly to wait for disks and for guests
that do not answer."""
TICK = 0.1
"""Seconds that a call may come late."""
_POLL = 1.0


class Pace:
    """Gives turns. Safe from any thread.

    Args:
        rate: looks a second.
        at_once: resets at the same time.
        clock: that looks and calls are due by.
    """

    def __init__(self, rate: float = RATE, at_once: int = AT_ONCE, clock: Clock = SYSTEM) -> None:
        self.clock = clock
        self._gap = 1 / rate
        self._lock = threading.Lock()
        self._busy_until = float("-inf")
        self._free = at_once
        self._turn = clock.condition()
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._caller: Thread | None = None

    @contextlib.contextmanager
    def turn(self, seconds: float, cancel: Cancel) -> Iterator[None]:
        """Do something heavy when not too many others do, and when the time is up anyway.

        So hosts that hang delay another one by no more than this time.

        Args:
            seconds: to wait at most.
            cancel: ends the wait early.

        Raises:
            CancelledError: the end was asked for.
        """
        deadline = Deadline(seconds, cancel)
        is_mine = False
        with contextlib.suppress(DeadlineExceededError):
            while not (is_mine := self._take(min(_POLL, deadline.remaining))):
                deadline.check("waiting for other hosts")
        try:
            yield
        finally:
            if is_mine:
                with self._turn:
                    self._free += 1
                    self._turn.notify()

    def _take(self, seconds: float) -> bool:
        with self._turn:
            is_free = self._turn.wait_for(lambda: self._free > 0, seconds)
            self._free -= is_free
            return is_free

    def pause(self, seconds: float) -> float:
        """Return the seconds to the caller's next look, which it is then expected to take.

        Few hosts look as often as they want; of many, each lets all others look before.

        Args:
            seconds: that it would wait if it were alone.
        """
        now = self.clock.monotonic()
        with self._lock:
            begin = max(now, self._busy_until)
            self._busy_until = begin + self._gap
        return begin - now + seconds

    def call(self, at: float, wake: Callable[[], None]) -> None:
        """Have something called, in a thread of ours: whoever waits for it sleeps until then.

        Args:
            at: monotonic seconds.
            wake: does not wait.
        """
        with self._lock:
            heapq.heappush(self._due, (at, next(self._numbers), wake))
            if self._caller:
                return  # and it is not woken: it looks by itself
            self._caller = self.clock.thread(self._call, "pace")
            self._caller.start()

    def _call(self) -> None:
        while True:
            self.clock.sleep(TICK)
            with self._lock:
                wakes = []
                while self._due and self._due[0][0] <= self.clock.monotonic():
                    wakes.append(heapq.heappop(self._due)[2])
                if not (self._due or wakes):
                    self._caller = None
                    return
            for wake in wakes:
                wake()

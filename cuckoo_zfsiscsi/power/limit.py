"""At most one command at a time to one BMC, and a pause after each: BMCs crash when hurried."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Iterator

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.power.breaker import Breaker

POLL = 0.05
"""Seconds between two looks at whose turn it is."""


class Limiter:
    """The queue in front of one BMC: first come, first served."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._queue: deque[object] = deque()
        self._idle_since = float("-inf")
        self.breaker = Breaker()
        self.errors = 0
        """Commands that failed since the service began; whoever has the turn counts."""

    @contextlib.contextmanager
    def turn(self, interval: float, *, deadline: Deadline, what: str) -> Iterator[None]:
        """Wait for a turn, and have it as long as the context lasts.

        Args:
            interval: least seconds since the end of the command before.
            deadline: for the wait.
            what: completes "... took longer than N s".

        Raises:
            DeadlineExceededError, CancelledError: it was not our turn; the place is given up.
        """
        ticket = object()
        with self._lock:
            self._queue.append(ticket)
        ours = False
        try:
            while wait := self._wait(ticket, interval, deadline.clock.monotonic()):
                deadline.sleep(wait, what)
            ours = True
            yield
        finally:
            with self._lock:
                if ours:
                    self._idle_since = deadline.clock.monotonic()
                self._queue.remove(ticket)

    def _wait(self, ticket: object, interval: float, now: float) -> float:
        with self._lock:
            if self._queue[0] is not ticket:
                return POLL
            return max(0.0, self._idle_since + interval - now)


_limiters: dict[str, Limiter] = {}
_registry = threading.Lock()


def limiter_for(peer: str) -> Limiter:
    """Return the one limiter that this process has for a BMC, by its Driver.peer."""
    with _registry:
        return _limiters.setdefault(peer, Limiter())


def errors_by_peer() -> dict[str, int]:
    """Return how many commands have failed since the service began, by Driver.peer."""
    with _registry:
        return {peer: limiter.errors for peer, limiter in _limiters.items()}

"""Monotonic deadlines and cancellation, passed down through every operation (labgrid's Timeout)."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from cuckoo_zfsiscsi.clock import SYSTEM, Clock
from cuckoo_zfsiscsi.errors import CancelledError, DeadlineExceededError

ROUND = 0.1
"""Seconds after which a wait that can't be woken looks whether it shall be given up."""


class Cancel:
    """A wish, made from any thread, that an operation stop soon.

    Args:
        clock: that waits for it go by.
    """

    def __init__(self, clock: Clock = SYSTEM) -> None:
        self.clock = clock
        self._changed = clock.condition()
        self._is_set = False
        self.reason = ""

    def set(self, reason: str) -> None:
        """Ask for the end; the first reason stays."""
        with self._changed:
            if not self._is_set:
                self.reason, self._is_set = reason, True
                self._changed.notify_all()

    def __bool__(self) -> bool:
        return self._is_set

    def wait(self, seconds: float) -> bool:
        """Sleep; True as soon as the end was asked for."""
        with self._changed:
            return self._changed.wait_for(self.__bool__, seconds)


class Deadline:
    """A moment on the monotonic clock by which something must be true.

    Args:
        seconds: from now.
        cancel: ends every wait early, with CancelledError.
        clock: that it goes by; with `cancel`, that one's.
    """

    def __init__(
        self, seconds: float, cancel: Cancel | None = None, *, clock: Clock = SYSTEM
    ) -> None:
        self.seconds = seconds
        self.cancel = Cancel(clock) if cancel is None else cancel  # an unset one is false
        self.clock = self.cancel.clock
        self._end = self.clock.monotonic() + seconds

    @property
    def remaining(self) -> float:
        """Seconds left, never below 0."""
        return max(0.0, self._end - self.clock.monotonic())

    def within(self, seconds: float) -> Deadline:
        """Return a deadline at most that many seconds away and never later than this one."""
        return Deadline(min(seconds, self.remaining), self.cancel)

    def check(self, what: str) -> None:
        """Go on, or raise.

        Args:
            what: completes "... took longer than N s".

        Raises:
            CancelledError: the end was asked for.
            DeadlineExceededError: the time is up.
        """
        if self.cancel:
            raise CancelledError(f"{what}: given up, {self.cancel.reason}")
        if not self.remaining:
            raise DeadlineExceededError(f"{what} took longer than {self.seconds:.1f} s")

    def sleep(self, seconds: float, what: str) -> None:
        """Sleep, but no longer than the deadline allows; then check().

        Raises:
            CancelledError, DeadlineExceededError: as check().
        """
        self.cancel.wait(min(seconds, self.remaining))
        self.check(what)

    @contextmanager
    def holding(self, lock: threading.Lock, what: str) -> Iterator[None]:
        """Have a lock until the end of the block.

        Args:
            lock: that another thread may have for long.
            what: completes "... took longer than N s".

        Raises:
            CancelledError, DeadlineExceededError: as check(); it was not to be had.
        """
        while not lock.acquire(timeout=min(ROUND, self.remaining)):
            self.check(what)
        try:
            yield
        finally:
            lock.release()

"""Monotonic deadlines and cancellation, passed down through every operation (labgrid's Timeout)."""

from __future__ import annotations

import threading
import time

from cuckoo_zfsiscsi.errors import CancelledError, DeadlineExceededError


class Cancel:
    """A wish, made from any thread, that an operation stop soon."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self.reason = ""

    def set(self, reason: str) -> None:
        """Ask for the end; the first reason stays."""
        if not self._event.is_set():
            self.reason = reason
            self._event.set()

    def __bool__(self) -> bool:
        return self._event.is_set()

    def wait(self, seconds: float) -> bool:
        """Sleep; True as soon as the end was asked for."""
        return self._event.wait(seconds)


class Deadline:
    """A moment on the monotonic clock by which something must be true.

    Args:
        seconds: from now.
        cancel: ends every wait early, with CancelledError.
    """

    def __init__(self, seconds: float, cancel: Cancel | None = None) -> None:
        self.seconds = seconds
        self.cancel = Cancel() if cancel is None else cancel  # an unset one is false
        self._end = time.monotonic() + seconds

    @property
    def remaining(self) -> float:
        """Seconds left, never below 0."""
        return max(0.0, self._end - time.monotonic())

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

"""Changes of the kernel's target: one at a time, none without a deadline."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from cuckoo_zfsiscsi.deadline import ROUND, Deadline
from cuckoo_zfsiscsi.disk.bounded import bounded
from cuckoo_zfsiscsi.disk.target.lio_kernel import refusals

T = TypeVar("T")
_POLL = 0.01


class _Removal:
    """Something that is being removed, by the first who waits for it."""

    def __init__(self, call: Callable[[], None], end: Callable[[], None]) -> None:
        self._call, self._end = call, end
        self._begun, self._done = threading.Lock(), threading.Event()
        self._error: Exception | None = None

    def join(self, what: str, deadline: Deadline) -> None:
        if self._begun.acquire(blocking=False):
            try:
                self._call()
            except Exception as error:
                self._error = error
                raise
            finally:
                self._end()
                self._done.set()
        while not self._done.wait(min(ROUND, deadline.remaining)):
            deadline.check(what)
        if self._error:
            raise self._error


class Writer:
    """The one writer of this process.

    Parallel writers of configfs trip over each other's half-made objects. Removals go beside it:
    they wait for a guest's commands, for a login that is half done or for a disk's last writes,
    which may be long, and touch nothing that others use.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._guard = threading.Lock()
        self._removals: dict[Path, _Removal] = {}

    def change(self, call: Callable[[], T], what: str, deadline: Deadline) -> T:
        """Make one change, after those that are under way.

        Args:
            call: makes it. It may go on when nobody waits for it any more.
            what: completes "... took longer than N s".
            deadline: of the wait.

        Raises:
            TargetError: refused.
            DeadlineExceededError, CancelledError: not done.
        """

        def alone() -> T:
            with deadline.holding(self._lock, f"{what}: waiting for another change"):
                deadline.check(what)
                return call()

        with refusals(what):
            return bounded(alone, what, deadline)

    def remove(self, path: Path, call: Callable[[], None], what: str, deadline: Deadline) -> None:
        """Remove something; who comes while that is under way waits for it, too.

        Args:
            path: of it. Nobody else removes it meanwhile.
            call: removes it; no error if it is gone.
            what: completes "... took longer than N s".
            deadline: of the wait. The removal goes on.

        Raises:
            TargetError, DeadlineExceededError, CancelledError: as change().
        """
        with self._guard:
            removal = self._removals.setdefault(path, _Removal(call, lambda: self._forget(path)))
        with refusals(what):
            bounded(lambda: removal.join(what, deadline), what, deadline)

    def _forget(self, path: Path) -> None:
        with self._guard:
            del self._removals[path]

    def under_way(self, path: Path) -> list[Path]:
        """Return what is being removed at or below a path: looking at it would have to wait."""
        with self._guard:
            return [found for found in self._removals if found.is_relative_to(path)]

    def settle(self, path: Path, what: str, deadline: Deadline) -> None:
        """Wait until nothing at or below a path is being removed.

        Raises:
            DeadlineExceededError, CancelledError: something still is.
        """
        while self.under_way(path):
            deadline.sleep(_POLL, what)

"""Watches a host from outside: since when does RPC answer, or not (paper, section 6.2)."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import TypeVar

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.readiness import rpc

W = TypeVar("W", bound="Watch")

INTERVAL = 0.1
"""Seconds between two probes."""
ATTEMPT = 1.0
"""Seconds for one probe."""
LANES = int(ATTEMPT / INTERVAL) + 2
"""Probes at once: a host that is off lets each of them wait, and the next is not to be late."""


def _stay() -> None:
    """Probe from where we are."""


class Watch:
    """Probes RPC of one host every INTERVAL until closed, as the paper's authors did.

    Args:
        address: its IP address.
        port: TCP port of its endpoint mapper.
        enter: called in each thread that probes, to move it into another network.
    """

    def __init__(
        self, address: str, *, port: int = rpc.PORT, enter: Callable[[], None] = _stay
    ) -> None:
        self.address = address
        self._port = port
        self._enter = enter
        self._changes: list[tuple[float, bool]] = []
        self._news = threading.Condition()
        self._end = threading.Event()
        self._silent_since: float | None = None
        self._thread = threading.Thread(target=self._watch, name="watch", daemon=True)

    def __enter__(self: W) -> W:
        self._thread.start()
        return self

    def __exit__(
        self, _t: type[BaseException] | None, _e: BaseException | None, _b: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join()

    def changes(self) -> list[tuple[float, bool]]:
        """Since when (time.monotonic()) RPC did answer, or did not; the oldest first."""
        with self._news:
            return list(self._changes)

    def up(self, deadline: Deadline, *, after: float = 0.0) -> float:
        """Wait until RPC answers; return when it first did (time.monotonic()).

        Args:
            deadline: by when.
            after: what was before that moment does not count.

        Raises:
            DeadlineExceededError, CancelledError: as Deadline.check().
        """
        return self._wait("up", deadline, lambda: self._first(True, after))

    def lost(self, deadline: Deadline, *, after: float) -> float:
        """Wait until RPC falls silent after that moment; return when (time.monotonic()).

        Raises:
            DeadlineExceededError, CancelledError: as Deadline.check().
        """
        return self._wait("lost", deadline, lambda: self._first(False, after))

    def down(self, deadline: Deadline) -> float:
        """Wait until RPC is silent; return since when it is (time.monotonic()).

        Raises:
            DeadlineExceededError, CancelledError: as Deadline.check().
        """
        return self._wait("down", deadline, self._down_since)

    def _first(self, up: bool, after: float) -> float | None:
        return next((at for at, was_up in self.changes() if was_up is up and at > after), None)

    def _down_since(self) -> float | None:
        changes = self.changes()
        return changes[-1][0] if changes and not changes[-1][1] else None

    def _wait(self, what: str, deadline: Deadline, look: Callable[[], float | None]) -> float:
        while (found := look()) is None:
            with self._news:
                self._news.wait(INTERVAL)
            deadline.check(f"RPC of {self.address} {what}")
        return found

    def _watch(self) -> None:
        pending: deque[tuple[float, Future[tuple[bool, float]]]] = deque()
        pool = ThreadPoolExecutor(LANES, thread_name_prefix="probe", initializer=self._enter)
        while not self._end.is_set():
            began = time.monotonic()
            pending.append((began, pool.submit(self._probe)))
            # One that answers is asked once at a time. Answers count in the order of the questions.
            while pending and (not self._is_silent or pending[0][1].done()):
                asked, answer = pending.popleft()
                self._judge(asked, *answer.result())
            self._end.wait(max(0.0, began + INTERVAL - time.monotonic()))
        pool.shutdown(cancel_futures=True)

    @property
    def _is_silent(self) -> bool:
        return bool(self._changes) and not self._changes[-1][1]

    def _probe(self) -> tuple[bool, float]:
        """Return whether RPC answers, and when that was known."""
        answer = rpc.probe(self.address, self._port, deadline=Deadline(ATTEMPT))
        return answer.ok, time.monotonic()

    def _judge(self, asked: float, ok: bool, known: float) -> None:
        if ok:
            self._silent_since = None
            self._note(known, up=True)
        elif self._silent_since is None and self._changes:
            self._silent_since = asked  # it counts when the next probe fails, too
        else:
            self._note(self._silent_since or asked, up=False)

    def _note(self, moment: float, *, up: bool) -> None:
        with self._news:
            if not self._changes or self._changes[-1][1] is not up:
                self._changes.append((moment, up))
                self._news.notify_all()

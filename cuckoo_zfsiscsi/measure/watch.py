"""Watches a host from outside: since when does RPC answer, or not (paper, section 6.2)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import TypeVar

from cuckoo_zfsiscsi.clock import SYSTEM, Clock
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.readiness import rpc

W = TypeVar("W", bound="Watch")

INTERVAL = 0.1
"""Seconds between two probes."""
ATTEMPT = 1.0
"""Seconds for one probe."""


def _stay() -> None:
    """Probe from where we are."""


class Watch:
    """Probes RPC of one host every INTERVAL until closed, as the paper's authors did.

    Args:
        address: its IP address.
        port: TCP port of its endpoint mapper.
        enter: called in each thread that probes, to move it into another network.
        clock: that it goes by.
    """

    def __init__(
        self,
        address: str,
        *,
        port: int = rpc.PORT,
        enter: Callable[[], None] = _stay,
        clock: Clock = SYSTEM,
    ) -> None:
        self.address = address
        self.clock = clock
        self._port = port
        self._enter = enter
        self._changes: list[tuple[float, bool]] = []
        self._news = clock.condition()
        self._has_ended = False
        self._silent_since: float | None = None
        self._thread = clock.thread(self._watch, "watch")

    def __enter__(self: W) -> W:
        self._thread.start()
        return self

    def __exit__(
        self, _t: type[BaseException] | None, _e: BaseException | None, _b: TracebackType | None
    ) -> None:
        with self._news:
            self._has_ended = True
            self._news.notify_all()
        self._thread.join()

    def changes(self) -> list[tuple[float, bool]]:
        """Since when (the clock's monotonic()) RPC did answer, or did not; the oldest first."""
        with self._news:
            return list(self._changes)

    def up(self, deadline: Deadline, *, after: float = 0.0) -> float:
        """Wait until RPC answers; return when it first did (the clock's monotonic()).

        Args:
            deadline: by when, by the same clock.
            after: what was before that moment does not count.

        Raises:
            DeadlineExceededError, CancelledError: as Deadline.check().
        """
        return self._wait("up", deadline, lambda: self._first(True, after))

    def lost(self, deadline: Deadline, *, after: float) -> float:
        """Wait until RPC falls silent after that moment; return when, by the clock.

        Raises:
            DeadlineExceededError, CancelledError: as Deadline.check().
        """
        return self._wait("lost", deadline, lambda: self._first(False, after))

    def down(self, deadline: Deadline) -> float:
        """Wait until RPC is silent; return since when it is, by the clock.

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
        pending: deque[_Question] = deque()
        due = self.clock.monotonic()
        while not self._ends_within(due - self.clock.monotonic()):
            due = self.clock.monotonic() + INTERVAL
            # In a thread of its own: a host that is off lets it wait, and the next is not late
            pending.append(_Question(self.clock, self._probe))
            # One that answers is asked once at a time. Answers count in the order of the questions.
            while pending and (not self._is_silent or pending[0].is_done):
                question = pending.popleft()
                self._judge(question.asked, *question.wait())
        for question in pending:
            question.wait()

    def _ends_within(self, seconds: float) -> bool:
        with self._news:
            return self._news.wait_for(lambda: self._has_ended, seconds)

    @property
    def _is_silent(self) -> bool:
        return bool(self._changes) and not self._changes[-1][1]

    def _probe(self) -> tuple[bool, float]:
        """Return whether RPC answers, and when that was known."""
        self._enter()
        deadline = Deadline(ATTEMPT, clock=self.clock)
        answer = rpc.probe(self.address, self._port, deadline=deadline)
        return answer.ok, self.clock.monotonic()

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


class _Question:
    """One probe, under way from now on.

    Args:
        clock: that it goes by.
        ask: returns whether RPC answers, and when that was known.
    """

    def __init__(self, clock: Clock, ask: Callable[[], tuple[bool, float]]) -> None:
        self.asked = clock.monotonic()
        self._ask = ask
        self._answer = False, self.asked
        self._thread = clock.thread(self._run, "probe")
        self._thread.start()

    @property
    def is_done(self) -> bool:
        """Whether the answer is there."""
        return not self._thread.is_alive()

    def wait(self) -> tuple[bool, float]:
        """Return the answer."""
        self._thread.join()
        return self._answer

    def _run(self) -> None:
        self._answer = self._ask()

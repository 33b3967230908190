"""The clock that deadlines, pauses and caches go by. A test can hold one of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Protocol


class Condition(Protocol):
    """What threading.Condition has, and a wait on it ends by the clock."""

    def __enter__(self) -> bool: ...

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
        /,
    ) -> None: ...

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until notified, or so many seconds; True if notified. The lock must be held."""
        ...

    def wait_for(self, predicate: Callable[[], bool], timeout: float | None = None) -> bool:
        """Wait until the predicate is true, or so many seconds; return what it is."""
        ...

    def notify(self, n: int = 1) -> None:
        """Wake so many of those that wait. The lock must be held."""
        ...

    def notify_all(self) -> None:
        """Wake all that wait. The lock must be held."""
        ...


class Thread(Protocol):
    """What threading.Thread has, and a wait for its end goes by the clock."""

    def start(self) -> None:
        """Begin."""
        ...

    def join(self, timeout: float | None = None) -> None:
        """Wait for its end, or so many seconds."""
        ...

    def is_alive(self) -> bool:
        """Tell whether it has begun and not ended."""
        ...


class Clock(Protocol):
    """Time, and all that waits for it to pass.

    Whoever waits for time waits by one of these; then a test's clock knows when everybody waits,
    and time can pass at once. So threads that wait are made here, too.
    """

    def monotonic(self) -> float:
        """Return seconds that only grow."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait so many seconds."""
        ...

    def condition(self) -> Condition:
        """Return a condition with a lock of its own, which one thread may take several times."""
        ...

    def thread(self, target: Callable[[], object], name: str) -> Thread:
        """Return a thread that is not begun. The interpreter's end does not wait for it."""
        ...


class SystemClock:
    """Implements Clock by the machine's own."""

    def monotonic(self) -> float:
        """As Clock has it."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """As Clock has it."""
        time.sleep(seconds)

    def condition(self) -> Condition:
        """As Clock has it."""
        return threading.Condition()

    def thread(self, target: Callable[[], object], name: str) -> Thread:
        """As Clock has it."""
        return threading.Thread(target=target, name=name, daemon=True)


SYSTEM: Clock = SystemClock()
"""What everything goes by that is told no other."""

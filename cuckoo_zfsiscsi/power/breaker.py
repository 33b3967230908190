"""Leaves a BMC that does not answer in peace for a while: a circuit breaker."""

from __future__ import annotations

import threading

OPENS_AFTER = 5
"""Failures in a row."""
PAUSES = (10.0, 20.0, 40.0, 60.0)
"""Seconds of peace after the first, second, ... time that it opens; the last stays."""


class Breaker:
    """Closed: ask. Open: don't, until the pause is over; then one may try, and that decides.

    Its caller has the BMC's turn (limit.py), so whoever finds the pause over is the only one; and
    tells what time it is, by its deadline's clock.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failures = 0
        self._opened = 0
        self._until = 0.0
        self.last = ""
        """What the last failure was."""

    def wait(self, now: float) -> float:
        """Return the seconds until it may be asked again; 0: now."""
        with self._lock:
            return max(0.0, self._until - now)

    @property
    def failures(self) -> int:
        """How many commands in a row have failed."""
        return self._failures

    def succeeded(self) -> None:
        """Close: it has answered."""
        with self._lock:
            self._failures = self._opened = 0
            self._until = 0.0

    def failed(self, why: str, now: float) -> None:
        """Open when that was one failure too many, or the one try at a pause's end."""
        with self._lock:
            self._failures += 1
            self.last = why
            if self._failures >= OPENS_AFTER:
                pause = PAUSES[min(self._opened, len(PAUSES) - 1)]
                self._opened += 1
                self._until = now + pause

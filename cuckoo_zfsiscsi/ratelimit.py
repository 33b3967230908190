"""A rate limiter: for each of those that are limited a token bucket (RFC 2697, 3)."""

from __future__ import annotations

import threading
from collections.abc import Hashable

from cuckoo_zfsiscsi.clock import SYSTEM, Clock

MOST = 4096
"""Buckets. When there are more, those that are full are forgotten: they are as new ones."""


class RateLimiter:
    """Lets each of many do so much, and no more. Safe from any thread.

    Args:
        rate: times a second that one may do it in the long run.
        burst: times that one may do it at once, after a rest.
        clock: that time passes by.
    """

    def __init__(self, rate: float, burst: float, clock: Clock = SYSTEM) -> None:
        self._rate, self._burst, self._clock = rate, burst, clock
        self._lock = threading.Lock()
        self._buckets: dict[Hashable, tuple[float, float]] = {}
        """By key: tokens in it, and since when (monotonic seconds)."""

    def allow(self, key: Hashable, cost: float = 1.0) -> bool:
        """Whether it may do it now; what it may not costs nothing.

        Args:
            key: who. A guest must not be able to choose it at will.
            cost: times that it counts for; who may do it once, may do this.
        """
        now = self._clock.monotonic()
        with self._lock:
            tokens = self._fill(key, now)
            is_allowed = tokens >= 1
            self._buckets[key] = tokens - cost * is_allowed, now
            if len(self._buckets) > MOST:
                self._forget(now)
            return is_allowed

    def _fill(self, key: Hashable, now: float) -> float:
        tokens, since = self._buckets.get(key, (self._burst, now))
        return min(self._burst, tokens + (now - since) * self._rate)

    def _forget(self, now: float) -> None:
        full = [key for key in self._buckets if self._fill(key, now) >= self._burst]
        for key in full:
            del self._buckets[key]

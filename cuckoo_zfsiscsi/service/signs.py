"""What servers saw of a host before its boot script was asked for: the first stages of a boot."""

from __future__ import annotations

import threading
from collections import deque

from cuckoo_zfsiscsi.clock import Clock
from cuckoo_zfsiscsi.service.boot import Boot

MOST = 16
BEFORE = 60.0
"""Seconds from a machine's first request to that for its script, at most."""


class Signs:
    """Remembers what was seen, until a boot is known that it belongs to. Safe from any thread.

    Args:
        clock: that moments are told by.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: deque[tuple[str, float]] = deque(maxlen=MOST)

    def note(self, stage: str, at: float) -> None:
        """Remember a stage (monotonic seconds)."""
        with self._lock:
            self._seen.append((stage, at))

    def has_stalled(self, now: float, *, is_off: bool) -> bool:
        """Tell whether a boot began that has not asked for its script in time.

        Args:
            now: monotonic seconds.
            is_off: the host's last boot is over. Else its guest may be who asked for an address;
                but no guest asks for a boot file.
        """
        with self._lock:
            return any(
                at < now - BEFORE and (is_off or stage == "tftp") for stage, at in self._seen
            )

    def patience(self, now: float) -> float | None:
        """Return seconds after which to look whether a boot has stalled; None: not at all."""
        with self._lock:
            if not self._seen:
                return None
            return max(1.0, self._seen[0][1] + BEFORE - now)

    def tell(self, boot: Boot) -> None:
        """Tell the boot that has just begun what was seen of it, and forget it."""
        with self._lock:
            seen, now = list(self._seen), self._clock.monotonic()
            self._seen.clear()
        recent = [(stage, at) for stage, at in seen if at > now - 2 * BEFORE]
        if not boot.age:  # nobody has switched it on for this boot
            boot.begin(recent[0][1] if recent else now)
        for stage, at in recent:
            boot.note(stage, at)

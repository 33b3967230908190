"""When a host that is reset at each boot may be reset again: one that boots in a loop waits.

A host whose disk does not boot asks again and again, and so may a guest: each time its disk is
reset. A few boots in a row are a person's, or a sandbox's. After more of them each waits longer for
its disk than the one before, until they are as far apart as a working host's are.
"""

from __future__ import annotations

from dataclasses import dataclass

FREE = 6
"""Boots in a row that need not wait."""
FORGOTTEN = 60.0
"""Seconds after which one of them does not count any more."""
FIRST, MOST = 5.0, 300.0
"""Seconds that the first one waits that must; each further one twice as long, and that at most."""


@dataclass(frozen=True, slots=True)
class BootLoop:
    """The boots of a host, as far as they count."""

    boots: float = 0.0
    """Up to the last one, with that; those before it count the less the longer ago they were."""
    at: float = float("-inf")
    """When the last one began (monotonic seconds)."""
    is_told: bool = False
    """There has been a warning of this loop."""

    def after_boot(self, now: float) -> BootLoop:
        """Return it with one more boot, that begins now."""
        before = max(0.0, self.boots - (now - self.at) / FORGOTTEN)
        return BootLoop(before + 1, now, self.is_told and before > 0)

    @property
    def pause(self) -> float:
        """Seconds from the last boot to the next reset, at least."""
        over = self.boots - FREE
        return 0.0 if over <= 0 else min(MOST, FIRST * 2.0 ** (over - 1))

    @property
    def next_at(self) -> float:
        """When the disk may be reset again (monotonic seconds)."""
        return self.at + self.pause

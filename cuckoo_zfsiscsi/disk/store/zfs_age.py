"""The clock that evidence grows old by: it counts the time for which a server is up with the pool.

The time of day can be set, by a year in either direction, and evidence would be gone or stay for
ever. So nothing here looks at it: only CLOCK_BOOTTIME is, which the kernel counts from its start
and nobody can set (clock_gettime(2)). What was counted is on record in the pool. While the server
is off nothing grows old, nor between the last record and a crash.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
"""Another one at each start of the kernel, random(4)."""


class Uptime(NamedTuple):
    """A moment, as the kernel counts it."""

    boot: str
    """Which start of it; "" if it does not say."""
    seconds: float
    """Since then, those asleep included."""


def uptime() -> Uptime:
    """Return now."""
    try:
        boot = BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        boot = ""
    return Uptime(boot, time.clock_gettime(time.CLOCK_BOOTTIME))


@dataclass(frozen=True, slots=True)
class Age:
    """What was counted until some moment."""

    seconds: float = 0.0
    boot: str = ""
    uptime: float = 0.0

    def at(self, now: Uptime) -> Age:
        """Return what is counted until now; after another start of the kernel that begins anew."""
        same = self.boot and self.boot == now.boot and now.seconds >= self.uptime
        more = now.seconds - self.uptime if same else 0.0
        return Age(self.seconds + more, now.boot, now.seconds)

    @classmethod
    def parse(cls, text: str) -> Age:
        """Read what str() wrote; anything else is nothing that was counted."""
        try:
            seconds, boot, uptime = text.split()
            return cls(float(seconds), boot.strip("-"), float(uptime))
        except ValueError:
            return cls()

    def __str__(self) -> str:
        return f"{self.seconds:.0f} {self.boot or '-'} {self.uptime:.0f}"

"""Room for what armed hosts may yet write, where disks are files of one file system.

Nothing limits a file but the size of its disk. So a host is armed only while there is room for what
it and all others that are armed could write: then no run fails because of another one. Reckoned
with less than the disk's size for each (run_gib) that is a bet.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cuckoo_zfsiscsi.errors import StoreFullError

GIB = 1 << 30
LEAST = GIB
"""Bytes reckoned for each run when the configuration does not say how many: an ordinary one's."""


@dataclass(frozen=True, slots=True)
class Armed:
    """A disk that a guest may write to, in bytes."""

    size: int
    taken: int
    """Blocks that it need not take any more when it is written; none that it shares."""

    def left(self, run: int) -> int:
        """Return what a run may yet take of the file system; run: bytes reckoned for each."""
        return min(run, max(0, self.size - self.taken))


def missing(free: int, armed: Iterable[Armed], run: int) -> int:
    """Return how many bytes there are too few for all of them; 0 when there are enough.

    Args:
        free: bytes, of the file system.
        armed: disks, that which is about to be armed included.
        run: bytes reckoned for each run; 0: the least.
    """
    return max(0, sum(one.left(run or LEAST) for one in armed) - free)


def no_room(host: str, path: Path, lacking: int, count: int) -> StoreFullError:
    """Return the error of a host that is not armed."""
    return StoreFullError(
        f"{host} is not armed: {path} has {max(0.1, lacking / 1e9):.1f} GB too few for what "
        f"{count} armed hosts may yet write",
        fix=f"df -h {path}; zfsiscsi image list; or reckon with less: run_gib in [storage]",
    )

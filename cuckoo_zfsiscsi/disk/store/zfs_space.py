"""How full the pool is. Evidence is dropped for room, the oldest first; an image never is."""

from __future__ import annotations

import logging

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.store import Space
from cuckoo_zfsiscsi.disk.store.zfs_call import Zfs
from cuckoo_zfsiscsi.disk.store.zfs_evidence import EvidenceRoom
from cuckoo_zfsiscsi.disk.store.zfs_layout import Layout
from cuckoo_zfsiscsi.errors import DiskError, StoreFullError

log = logging.getLogger(__name__)

_POLL = 0.2
_FREED_TIMEOUT = 60.0
"""Seconds in which ZFS frees what was destroyed."""

_SPACE = """
local argv = ...
argv = argv["argv"]
return {
    used = zfs.get_prop(argv[1], "used"),
    available = zfs.get_prop(argv[1], "available"),
    here = zfs.get_prop(argv[2], "available"),
}
"""


class Room:
    """Room in one pool.

    Args:
        layout: of the store.
        zfs: its pool.
        evidence: of the store.
        percent: of the pool that stay free.
    """

    def __init__(self, layout: Layout, zfs: Zfs, evidence: EvidenceRoom, percent: int) -> None:
        self._layout = layout
        self._zfs = zfs
        self._evidence = evidence
        self._percent = percent

    def space(self, *, deadline: Deadline) -> Space:
        """Return how full it is."""
        words = [self._layout.pool, self._layout.parent]
        found = self._zfs.read(_SPACE, words, deadline=deadline)
        free = min(found["available"], found["here"])
        return Space(found["used"] + found["available"], free)

    def make(self, needed: int, what: str, *, deadline: Deadline) -> None:
        """See to it that there is room for so many bytes, and what shall stay free besides.

        Raises:
            StoreFullError: there is not, and no evidence is left that could be dropped for it.
        """
        space = self.space(deadline=deadline)
        while not self._fits(space, needed):
            if not self._drop_oldest(deadline):
                raise StoreFullError(
                    f"no room for {what}: {space.percent:.0f} % of the pool {self._layout.pool} "
                    f"is free, and {self._percent} % shall stay so (pool_free)",
                    fix="delete images that no host uses (zfsiscsi image list), or add disks: "
                    f"zpool add {self._layout.pool} ...",
                )
            space = self.space(deadline=deadline)

    def _fits(self, space: Space, needed: int) -> bool:
        return space.free - needed >= space.total * self._percent / 100

    def _drop_oldest(self, deadline: Deadline) -> bool:
        """Drop evidence; False when none can be dropped."""
        for one in self._evidence.all(deadline=deadline):
            try:
                self._evidence.drop(one, deadline=deadline.within(10))
            except DiskError as error:
                log.warning("evidence %s can't be dropped: %s", one.name, error)
                continue
            log.warning("evidence %s was dropped: the pool is full", one.name)
            self._wait_until_freed(deadline.within(_FREED_TIMEOUT))
            return True
        return False

    def _wait_until_freed(self, deadline: Deadline) -> None:
        argv = ("zpool", "get", "-Hpo", "value", "freeing", self._zfs.pool)
        self._zfs.sync(deadline=deadline)
        while self._zfs.command(*argv, deadline=deadline).strip() != "0":
            deadline.sleep(_POLL, f"waiting for the pool {self._zfs.pool} to free space")

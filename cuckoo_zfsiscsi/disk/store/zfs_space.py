"""How full the pool is. For room, hosts get less and evidence is dropped; an image never is."""

from __future__ import annotations

import logging

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.store import Space
from cuckoo_zfsiscsi.disk.store.zfs_call import Zfs
from cuckoo_zfsiscsi.disk.store.zfs_evidence import EvidenceRoom
from cuckoo_zfsiscsi.disk.store.zfs_layout import Layout
from cuckoo_zfsiscsi.disk.store.zfs_retention import victims
from cuckoo_zfsiscsi.disk.store.zfs_rooms import Division, Rooms, not_enough
from cuckoo_zfsiscsi.errors import DiskError, StoreFullError

log = logging.getLogger(__name__)

_POLL = 0.2
_FREED_TIMEOUT = 60.0
"""Seconds in which ZFS frees what was destroyed."""


class Room:
    """Room in one pool.

    Args:
        layout: of the store.
        zfs: its pool.
        evidence: of the store.
        rooms: of the hosts' disks.
    """

    def __init__(self, layout: Layout, zfs: Zfs, evidence: EvidenceRoom, rooms: Rooms) -> None:
        self._layout = layout
        self._zfs = zfs
        self._evidence = evidence
        self._rooms = rooms

    def space(self, *, deadline: Deadline) -> Space:
        """Return how full it is. What is reserved for disks and not taken is free."""
        there = self._rooms.look(deadline=deadline)
        last = self._rooms.last
        return Space(there.total, there.free, last.sure if last else None)

    def make(self, needed: int, what: str, *, deadline: Deadline) -> None:
        """See to it that there is room for so many bytes, and what shall stay free besides.

        Raises:
            StoreFullError: there is not, and no evidence is left that could be dropped for it.
        """
        while not self._fits(division := self._divide(needed, deadline), needed):
            if self._drop_one(deadline):
                continue
            if not division.is_enough:
                raise not_enough(what, division, self._layout.pool)
            raise self._full(what, deadline)

    def make_for_disk(self, host: str, *, deadline: Deadline) -> None:
        """See to it that a host's next run can write what it must.

        Raises:
            StoreFullError: it can't be promised, and no evidence is left that could be dropped.
        """
        if host not in self._rooms.wanted.hosts:
            self.make(0, f"a disk of {host}", deadline=deadline)
            return
        while not (division := self._divide(0, deadline)).is_enough:
            if not self._drop_one(deadline):
                raise not_enough(f"a disk of {host}", division, self._layout.pool)

    def for_evidence(self, *, deadline: Deadline) -> int:
        """Return how many bytes all evidence may take, by what shall stay free besides."""
        there = self._rooms.look(deadline=deadline)
        stays_free = there.total * self._rooms.wanted.pool_free // 100
        return max(0, there.evidence + there.unpromised - stays_free)

    def _divide(self, needed: int, deadline: Deadline) -> Division:
        return self._rooms.divide(needed=needed, deadline=deadline)

    def _fits(self, division: Division, needed: int) -> bool:
        percent = self._rooms.wanted.pool_free
        return division.is_enough and division.left - needed >= division.total * percent / 100

    def _full(self, what: str, deadline: Deadline) -> StoreFullError:
        pool, percent = self._layout.pool, self._rooms.wanted.pool_free
        return StoreFullError(
            f"no room for {what}: {self.space(deadline=deadline).percent:.0f} % of the pool "
            f"{pool} is free, and {percent} % shall stay so (pool_free)",
            fix="delete images that no host uses (zfsiscsi image list), or add disks: "
            f"zpool add {pool} ...",
        )

    def _drop_one(self, deadline: Deadline) -> bool:
        """Drop evidence of who has most of it; False when none can be dropped."""
        for one in victims(self._evidence.all(deadline=deadline)):
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

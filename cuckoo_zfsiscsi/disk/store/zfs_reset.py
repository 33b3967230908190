"""What a reset does to a host's disks: a spare in place of the dirty one, or that one restored."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable
from functools import partial

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.store import Disk, zfs_catalogue, zfs_device
from cuckoo_zfsiscsi.disk.store.zfs_call import Zfs
from cuckoo_zfsiscsi.disk.store.zfs_catalogue import Golden
from cuckoo_zfsiscsi.disk.store.zfs_choice import Choice, look
from cuckoo_zfsiscsi.disk.store.zfs_disks import Clone, HostDisks
from cuckoo_zfsiscsi.disk.store.zfs_error import ZfsError
from cuckoo_zfsiscsi.disk.store.zfs_layout import GENERATION, LAST, TAINTED, TAKEN, Layout
from cuckoo_zfsiscsi.disk.store.zfs_make import Maker
from cuckoo_zfsiscsi.disk.store.zfs_rooms import Rooms
from cuckoo_zfsiscsi.disk.store.zfs_space import Room
from cuckoo_zfsiscsi.errors import DiskError, ZfsIscsiError

log = logging.getLogger(__name__)


class Resets:
    """Changes the roles of disks.

    Args:
        layout: of the store.
        zfs: its pool.
        room: in it.
        rooms: of the hosts' disks in it.
    """

    def __init__(self, layout: Layout, zfs: Zfs, room: Room, rooms: Rooms) -> None:
        self._layout = layout
        self._zfs = zfs
        self._room = room
        self._rooms = rooms
        self._maker = Maker(layout, zfs, rooms)

    def begin_swap(self, disks: HostDisks, image: str, *, deadline: Deadline) -> Callable[[], Disk]:
        """As Store.begin_swap()."""
        looked = self._look(disks, image, deadline)
        return partial(self._swap, disks, image, looked, deadline)

    def _swap(
        self, disks: HostDisks, image: str, looked: Callable[[], Choice], deadline: Deadline
    ) -> Disk:
        if not self._rooms.is_enough:
            self._room.make_for_disk(disks.host, deadline=deadline)
        while True:
            with disks.hold(deadline):
                choice = looked()
                if clone := self._standing_by(disks, image, choice, deadline):
                    disks.promote(clone)
                    self._rooms.note(disks.host, choice.used)
                    return clone.disk
            with disks.busy(deadline):  # someone may be making one already
                self.make_missing(disks, image, 1, deadline=deadline)
            looked = self._look(disks, image, deadline)

    def _look(self, disks: HostDisks, image: str, deadline: Deadline) -> Callable[[], Choice]:
        spares = disks.of("spare")
        return look(self._layout, self._zfs, image, spares, deadline, folder=disks.folder)

    def _standing_by(
        self, disks: HostDisks, image: str, choice: Choice, deadline: Deadline
    ) -> Clone | None:
        """Return the spare to take; None when one must be made. Hold the roles."""
        for clone in disks.of("spare"):
            if choice.is_of(clone) and choice.is_untouched(clone) and not clone.tainted:
                return clone
            clone.proven = None  # a closer look, if it is taken after all
        _, ready = self._ready(disks, image, deadline)
        return ready[0] if ready else None

    def make_missing(
        self, disks: HostDisks, image: str, wanted: int, *, deadline: Deadline
    ) -> Clone:
        """Make spares until there are so many; return the next one. Be busy()."""
        with disks.hold(deadline):
            golden, ready = self._ready(disks, image, deadline)
            for other in disks.of("spare"):
                if other not in ready:
                    disks.change(other, "retired")
        missing = wanted - len(ready)
        if missing > 0:
            self._room.make_for_disk(disks.host, deadline=deadline)
            self._maker.make(disks, golden, missing, deadline=deadline)
        return disks.of("spare")[0]

    def _ready(
        self, disks: HostDisks, image: str, deadline: Deadline
    ) -> tuple[Golden, list[Clone]]:
        """Return the wanted image, and the spares of it that are still there. Hold the roles."""
        name, version = zfs_catalogue.parse(image)
        spares = disks.of("spare")
        snapshots = [clone.snapshot for clone in spares]
        folder, bases = zfs_catalogue.look(self._layout, self._zfs, name, snapshots, deadline)
        golden = folder.resolve(version)
        ready = []
        for clone in spares:
            if bases.get(clone.snapshot) != clone.base:
                log.warning("%s: the spare %s was destroyed", clone.host, clone.dataset)
                disks.change(clone, "dropped")
            elif clone.is_of(golden.image.ref, golden.image.digest) and not clone.tainted:
                ready.append(clone)
        return golden, ready

    def next_generation(self, disks: HostDisks, *, deadline: Deadline) -> int:
        """Give a number away, for good. Be busy()."""
        self._maker.prepare(disks, deadline)
        with disks.hold(deadline):
            disks.last += 1
            number = disks.last
        disks.record([(disks.folder, LAST, str(number))], deadline)
        return number

    def rollback(
        self, disks: HostDisks, image: str, *, keeps_evidence: bool, deadline: Deadline
    ) -> Disk:
        """As Store.rollback()."""
        with disks.busy(deadline), disks.hold(deadline):
            clone = disks.current
            same = look(self._layout, self._zfs, image, [], deadline)()
            if clone is not None and same.is_of(clone) and not keeps_evidence:
                self._restore(disks, clone, deadline)
                return clone.disk
        return self.begin_swap(disks, image, deadline=deadline)()

    def _restore(self, disks: HostDisks, clone: Clone, deadline: Deadline) -> None:
        """Restore a disk in place. Whatever goes wrong, it is not used again."""
        before = zfs_device.count_writes(clone.path)
        clone.tainted, clone.clean, clone.proven = True, None, None
        try:
            self._new_generation(disks, clone, deadline)
            self._zfs.rollback(clone.dataset, TAKEN, deadline=deadline)
        except ZfsIscsiError as error:
            disks.change(clone, "retired")
            if isinstance(error, ZfsError):
                raise _not_restored(clone, error) from error
            raise
        after = zfs_device.count_writes(clone.path)
        if after != before or after.pending:
            disks.change(clone, "retired")
            raise DiskError(
                f"{clone.dataset} was written while it was restored",
                fix=f"is {disks.host} off, and fenced? The next reset takes another disk",
            )
        clone.clean, clone.tainted = after, False

    @staticmethod
    def _new_generation(disks: HostDisks, clone: Clone, deadline: Deadline) -> None:
        """Put the next generation on record, before it is one: no number is used twice.

        A crash right afterwards is harmless: a current disk is tainted when the store is opened.
        """
        disks.last += 1
        clone.generation = disks.last
        number = str(disks.last)
        disks.record(
            [
                (disks.folder, LAST, number),
                (clone.dataset, GENERATION, number),
                (clone.dataset, TAINTED, ""),
            ],
            deadline,
        )


def _not_restored(clone: Clone, error: ZfsError) -> DiskError:
    if error.number == errno.EEXIST:
        return DiskError(
            f"{clone.dataset} has a newer snapshot than @{TAKEN}: it is not restored, as that "
            "would destroy the snapshot",
            fix=f"zfs list -t snapshot {clone.dataset}; the next reset takes another disk",
        )
    return DiskError(
        f"{clone.dataset} can't be restored: {error.what}",
        fix=f"{error.fix or 'zpool status -x'}; the next reset takes another disk",
    )

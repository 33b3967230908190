"""Makes spares: clones of a sealed image, each with a base that its proofs rest on."""

from __future__ import annotations

import contextlib
import errno
import functools
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.bounded import bounded
from cuckoo_zfsiscsi.disk.store import zfs_device
from cuckoo_zfsiscsi.disk.store.zfs_call import Zfs
from cuckoo_zfsiscsi.disk.store.zfs_catalogue import Golden
from cuckoo_zfsiscsi.disk.store.zfs_disks import Clone, HostDisks
from cuckoo_zfsiscsi.disk.store.zfs_drop import drop
from cuckoo_zfsiscsi.disk.store.zfs_error import ZfsError, ignoring
from cuckoo_zfsiscsi.disk.store.zfs_layout import BASE, GENERATION, IMAGE, LAST, ROLE, Layout
from cuckoo_zfsiscsi.disk.store.zfs_proof import read_states
from cuckoo_zfsiscsi.disk.store.zfs_rooms import Rooms
from cuckoo_zfsiscsi.errors import DiskError, ImageError, ZfsIscsiError

log = logging.getLogger(__name__)

_CLEAN_UP_TIMEOUT = 20.0


class Maker:
    """Makes the disks of one store.

    Args:
        layout: of the store.
        zfs: its pool.
        rooms: of the hosts' disks.
    """

    def __init__(self, layout: Layout, zfs: Zfs, rooms: Rooms) -> None:
        self._layout = layout
        self._zfs = zfs
        self._rooms = rooms

    def prepare(self, disks: HostDisks, deadline: Deadline) -> None:
        """Make the folder of a host's disks, if it is not there."""
        if not disks.made:
            with ignoring(errno.EEXIST):
                quota = self._rooms.quota(disks.host)
                self._zfs.create_folder(disks.folder, {}, quota=quota, deadline=deadline)
            disks.made = True

    def make(self, disks: HostDisks, golden: Golden, count: int, *, deadline: Deadline) -> None:
        """Make so many spares at once: eight take little longer than one. Be busy().

        Each is cloned, everything is synced, and only then is @base taken: a fresh clone counts
        8 KiB as written, and `written` lags. A spare is one to which nothing was ever submitted,
        from its device's first count on, which is zero, and nothing written since @base. What was
        submitted between its making and a first count that is not zero would be in @base.

        Raises:
            ImageError: the image is not what was sealed, or it has gone.
            StoreFullError, DiskError: not made; nothing is left behind.
            DeadlineExceededError, CancelledError: as those.
        """
        self.prepare(disks, deadline)
        if not golden.held:
            self._zfs.hold([golden.sealed], deadline=deadline)
        with disks.hold(deadline):
            numbers = range(disks.last + 1, disks.last + 1 + count)
            disks.last += count
        made = [self._clone(disks.host, number, golden) for number in numbers]
        try:
            for clone in made:
                self._begin(clone, golden, deadline)
            for clone in made:
                clone.path = zfs_device.wait_for(clone.dataset, deadline)
                clone.clean = zfs_device.count_writes(clone.path)
                if clone.clean.was_written:
                    raise _written(clone, "by this server, as soon as it was there")
            self._zfs.sync(deadline=deadline)
            snapshots = [clone.snapshot for clone in made]
            self._zfs.snapshot(snapshots, {}, deadline=deadline)
            self._zfs.hold(snapshots, deadline=deadline)
            self._check(made, deadline)
            facts = [(disks.folder, LAST, str(numbers[-1]))]
            for clone in made:
                facts += [(clone.dataset, ROLE, "spare"), (clone.dataset, BASE, str(clone.base))]
            self._zfs.set(facts, deadline=deadline)
        except BaseException:
            self._undo(disks, made)
            raise
        with disks.hold(deadline):
            for clone in made:
                disks.add(clone)

    def _clone(self, host: str, generation: int, golden: Golden) -> Clone:
        return Clone(
            host=host,
            generation=generation,
            dataset=self._layout.disk(host, generation),
            image=golden.image.ref,
            origin=int(golden.image.digest, 16),
            sample=golden.sample,
            base=0,
            path=Path(),
            role="spare",
        )

    def _begin(self, clone: Clone, golden: Golden, deadline: Deadline) -> None:
        facts = {ROLE: "making", GENERATION: str(clone.generation), IMAGE: clone.image}
        try:
            self._zfs.clone(clone.dataset, golden.sealed, facts, deadline=deadline)
        except ZfsError as error:
            if error.number != errno.ENOENT:
                raise
            raise ImageError(
                f"image {clone.image} has just gone", fix="zfsiscsi image list"
            ) from error

    def _check(self, made: Sequence[Clone], deadline: Deadline) -> None:
        """Take down each @base, and see that all is as it should be."""
        states = read_states(self._zfs, [clone.dataset for clone in made], deadline=deadline)
        for clone in made:
            state = states[clone.dataset]
            clone.base = state.base
            read = functools.partial(zfs_device.sample, clone.path)
            if bounded(read, f"reading {clone.path}", deadline) != clone.sample:
                raise ImageError(
                    f"image {clone.image} is not what was sealed: a clone of it reads otherwise",
                    fix="zpool status -v; import it again",
                )
            flaw = state.flaw(clone)
            after = zfs_device.count_writes(clone.path)
            if flaw or after.pending or after != clone.clean:
                raise _written(clone, flaw or "by this server")
            clone.proven = after  # by all that prove() looks at: its swap need not do it again

    def _undo(self, disks: HostDisks, made: Sequence[Clone]) -> None:
        """Drop what was begun. What can't be dropped now is dropped with the retired ones."""
        deadline = Deadline(_CLEAN_UP_TIMEOUT)
        last = (disks.folder, LAST, str(made[-1].generation))
        for clone in made:
            with left_for_later(disks, clone):
                self._zfs.set([last], deadline=deadline)  # used up, also when the disks go
                drop(self._zfs, clone.dataset, deadline=deadline)


def _written(clone: Clone, how: str) -> DiskError:
    return DiskError(
        f"{clone.path} was written while it was made: {how}",
        fix="keep LVM, multipath and the like off /dev/zd*: zfsiscsi doctor",
    )


@contextlib.contextmanager
def left_for_later(disks: HostDisks, clone: Clone) -> Iterator[None]:
    """Note a disk that could not be dropped now: it is dropped with the retired ones."""
    try:
        yield
    except ZfsIscsiError as error:
        log.warning("a half-made disk is left for later: %s", error)
        clone.role = "dropped"
        disks.add(clone)

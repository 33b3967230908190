"""The ZFS store: images and disks are volumes; a disk is a clone of an image's held snapshot.

What lies where: zfs_layout.py. A swap changes no property and waits for no transaction group; why
that is safe across a crash: zfs_writer.py.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.store import (
    Disk,
    Evidence,
    Image,
    Space,
    zfs_catalogue,
    zfs_device,
)
from cuckoo_zfsiscsi.disk.store.guard import guarded
from cuckoo_zfsiscsi.disk.store.server import Server
from cuckoo_zfsiscsi.disk.store.zfs_call import Zfs
from cuckoo_zfsiscsi.disk.store.zfs_disks import HostDisks
from cuckoo_zfsiscsi.disk.store.zfs_drafts import Drafts
from cuckoo_zfsiscsi.disk.store.zfs_drop import left_behind
from cuckoo_zfsiscsi.disk.store.zfs_evidence import EvidenceRoom
from cuckoo_zfsiscsi.disk.store.zfs_images import Images
from cuckoo_zfsiscsi.disk.store.zfs_layout import NAME, Layout
from cuckoo_zfsiscsi.disk.store.zfs_lease import Lease
from cuckoo_zfsiscsi.disk.store.zfs_open import Found, recover
from cuckoo_zfsiscsi.disk.store.zfs_proof import prove
from cuckoo_zfsiscsi.disk.store.zfs_reset import Resets
from cuckoo_zfsiscsi.disk.store.zfs_retired import PATIENCE, Retired
from cuckoo_zfsiscsi.disk.store.zfs_rooms import Rooms
from cuckoo_zfsiscsi.disk.store.zfs_rules import Rules
from cuckoo_zfsiscsi.disk.store.zfs_setup import Setup
from cuckoo_zfsiscsi.disk.store.zfs_space import Room
from cuckoo_zfsiscsi.disk.store.zfs_writer import Writer
from cuckoo_zfsiscsi.errors import DiskError, UnprovenDiskError, ZfsIscsiError
from cuckoo_zfsiscsi.progress import Progress

log = logging.getLogger(__name__)

OPEN_TIMEOUT = 120.0
"""Seconds. After a crash ZFS may have much to write, and devices to make."""
LOOK_TIMEOUT = 10.0
"""Seconds for what normally takes milliseconds."""
CHANGE_TIMEOUT = 60.0


class ZfsStore:
    """Store in a ZFS pool. Implements the Store protocol; safe between threads.

    Images and evidence may be managed without open(), by another process than the one that has it
    open.

    Args:
        place: pool, or dataset in one, that `zfsiscsi storage init` made ready.
        rules: of what is kept.
        server: this one, as against others that may import the pool.
    """

    def __init__(
        self, place: str, rules: Rules | None = None, *, server: Server | None = None
    ) -> None:
        self.layout = Layout(place)
        self.rules = rules or Rules()
        self.path = Path("/dev/zvol") / self.layout.parent
        self.zfs = Zfs(self.layout.pool)
        self.evidence = EvidenceRoom(self.layout, self.zfs)
        self.rooms = Rooms(self.layout, self.zfs, self.rules.wanted)
        self.room = Room(self.layout, self.zfs, self.evidence, self.rooms)
        self._images = Images(self.layout, self.zfs, self.room)
        self._drafts = Drafts(self.layout, self.zfs, self.room, self._images)
        self._resets = Resets(self.layout, self.zfs, self.room, self.rooms)
        kept_by = self.rules.evidence
        self._retired = Retired(self.zfs, self.evidence, kept_by, self.room, self.rooms)
        self._lease = Lease(self.layout, self.zfs, server or Server.here())
        self._writer: Writer | None = None
        self._hosts: dict[str, HostDisks] = {}
        self._hosts_lock = threading.Lock()

    @guarded
    def open(self) -> None:
        """As Store.open()."""
        deadline = Deadline(OPEN_TIMEOUT)
        owner = Setup(self.layout, self.zfs).owner(deadline=deadline)
        self._lease.take(owner, deadline)
        writer = Writer(self.zfs)
        try:
            self._images.tidy(deadline)
            self.evidence.tidy(deadline=deadline)
            found = recover(self.layout, self.zfs, deadline)
            hosts = {one.host: self._recovered(one, writer, deadline) for one in found}
            for kept in self.evidence.all(deadline=deadline):
                if kept.host in hosts:
                    hosts[kept.host].last = max(hosts[kept.host].last, kept.generation)
            self.rooms.divide(deadline=deadline)
            writer.flush(deadline)
        except BaseException:
            self._let_go(writer)
            raise
        self._hosts, self._writer = hosts, writer

    def _recovered(self, found: Found, writer: Writer, deadline: Deadline) -> HostDisks:
        disks = HostDisks(found.host, self.layout.host(found.host), writer)
        disks.made, disks.last = True, found.last
        for clone in found.clones:
            disks.add(clone)
        for clone in found.demoted:
            disks.change(clone, "retired")
        for clone in disks.of("dropped"):
            with left_behind(clone.dataset):  # by discard_retired()
                self._retired.drop(disks, clone, deadline=deadline.within(PATIENCE))
        return disks

    def _let_go(self, writer: Writer) -> None:
        try:
            writer.close(Deadline(CHANGE_TIMEOUT))
            self.evidence.now(deadline=Deadline(LOOK_TIMEOUT), record=True)
            self._lease.give_up(Deadline(LOOK_TIMEOUT))
        except ZfsIscsiError as error:  # as after a crash: harmless, but another machine asks
            log.warning("the store is left as after a crash: %s", error)

    def close(self) -> None:
        """As Store.close()."""
        writer, self._writer = self._writer, None
        if writer is not None:
            self._let_go(writer)

    @guarded
    def images(self) -> list[Image]:
        """As Store.images()."""
        folders = self._images.all(Deadline(LOOK_TIMEOUT))
        return [golden.image for folder in folders for golden in folder.versions]

    @guarded
    def find_image(self, ref: str) -> Image:
        """As Store.find_image()."""
        return self._images.find(ref, Deadline(LOOK_TIMEOUT)).image

    @guarded
    def import_image(
        self, name: str, source: Path, *, deadline: Deadline, progress: Progress
    ) -> Image:
        """As Store.import_image()."""
        Setup(self.layout, self.zfs).owner(deadline=deadline)  # is there a store at all?
        return self._images.add(name, source, deadline=deadline, progress=progress)

    @guarded
    def seal(self, ref: str, *, deadline: Deadline, progress: Progress) -> Image:
        """As Store.seal(): a snapshot, taken in no time."""
        image = self._images.seal(ref, deadline=deadline)
        progress(image.size, image.size)
        return image

    @guarded
    def delete_image(self, ref: str) -> None:
        """As Store.delete_image()."""
        self._images.remove(ref, deadline=Deadline(CHANGE_TIMEOUT))

    @guarded
    def users(self, ref: str) -> list[str]:
        """As Store.users()."""
        name, version = zfs_catalogue.parse(ref)
        folder = self._images.folder(name, Deadline(LOOK_TIMEOUT))
        return self._images.users(folder.any(version))

    @guarded
    def rollback_image(self, ref: str) -> Image:
        """As Store.rollback_image()."""
        return self._images.stand(ref, deadline=Deadline(CHANGE_TIMEOUT))

    @guarded
    def edit_image(self, host: str, name: str, *, deadline: Deadline) -> Disk:
        """As Store.edit_image()."""
        disks = self._host(host)
        with disks.busy(deadline):
            generation = self._resets.next_generation(disks, deadline=deadline)
            golden = self._drafts.edit(name, host, generation, deadline=deadline)
        path = zfs_device.wait_for(golden.dataset, deadline)
        return Disk(host, golden.generation, golden.image.ref, path, "draft")

    @guarded
    def current(self, host: str) -> Disk | None:
        """As Store.current()."""
        clone = self._host(host).current
        return clone.disk if clone else None

    @guarded
    def disks(self, host: str) -> list[Disk]:
        """As Store.disks()."""
        disks = self._host(host)
        deadline = Deadline(LOOK_TIMEOUT)
        found = [clone.disk for clone in [*disks.of("current"), *disks.of("spare")]]
        for draft in self._drafts.of(host, deadline):
            path = zfs_device.wait_for(draft.dataset, deadline)
            found.append(Disk(host, draft.generation, draft.image.ref, path, "draft"))
        return found

    @guarded
    def make_spare(self, host: str, image: str, *, deadline: Deadline, progress: Progress) -> Disk:
        """As Store.make_spare()."""
        disks = self._host(host)
        with disks.busy(deadline):
            wanted = self.rules.of(host).spares
            ready = self._resets.make_missing(disks, image, wanted, deadline=deadline)
        progress(1, 1)
        return ready.disk

    def begin_swap(self, host: str, image: str, *, deadline: Deadline) -> Callable[[], Disk]:
        """As Store.begin_swap()."""
        change = self._resets.begin_swap(self._host(host), image, deadline=deadline)
        return partial(self._end_swap, change)

    @guarded
    def _end_swap(self, change: Callable[[], Disk]) -> Disk:
        return change()

    @guarded
    def rollback(self, host: str, image: str, *, deadline: Deadline) -> Disk:
        """As Store.rollback()."""
        keeps = self.rules.of(host).evidence > 0
        disks = self._host(host)
        return self._resets.rollback(disks, image, keeps_evidence=keeps, deadline=deadline)

    @guarded
    def prove(self, disk: Disk, *, deadline: Deadline) -> None:
        """As Store.prove()."""
        try:
            clone = self._host(disk.host).find(disk.generation)
        except DiskError as error:
            raise _unproven(disk, error.what) from error
        if clone.role not in ("current", "spare") or clone.image != disk.image:
            raise _unproven(disk, "it is not this host's current or spare disk")
        try:
            flaw = prove(self.zfs, clone, deadline=deadline)
        except OSError as error:
            raise _unproven(disk, f"{clone.path}: {error.strerror}") from error
        if flaw:
            raise _unproven(disk, flaw)

    @guarded
    def taint(self, disk: Disk) -> None:
        """As Store.taint()."""
        disks = self._host(disk.host)
        disks.taint(disks.find(disk.generation))

    @guarded
    def discard_retired(self, host: str, *, deadline: Deadline) -> int:
        """As Store.discard_retired()."""
        disks = self._host(host)
        with disks.busy(deadline):
            return self._retired.discard(disks, deadline=deadline)

    def spares(self, host: str) -> int:
        """As Store.spares()."""
        return len(self._host(host).of("spare"))

    @guarded
    def space(self, *, deadline: Deadline) -> Space:
        """As Store.space()."""
        return self.room.space(deadline=deadline)

    @guarded
    def kept(self, *, deadline: Deadline) -> list[Evidence]:
        """As Store.kept()."""
        return self.evidence.all(deadline=deadline)

    def _host(self, host: str) -> HostDisks:
        if self._writer is None:
            raise DiskError(f"the store {self.layout.parent} is not open")
        if not NAME.fullmatch(host):
            raise DiskError(f"{host!r} can't be a host's name", fix="letters, digits, . _ -")
        with self._hosts_lock:
            if host not in self._hosts:
                folder = self.layout.host(host)
                self._hosts[host] = HostDisks(host, folder, self._writer)
            return self._hosts[host]


def _unproven(disk: Disk, why: str) -> UnprovenDiskError:
    return UnprovenDiskError(
        f"generation {disk.generation} of {disk.host} can't be proven clean: {why}",
        fix=f"zfsiscsi reset {disk.host}",
    )

"""The file store: images and disks are files; disks share blocks with images where they can.

PATH/images/NAME/VERSION.raw    golden images, read-only       (file_images.py)
PATH/disks/HOST/GENERATION.raw  their writable clones          (file_disks.py)
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from collections.abc import Callable, Collection
from dataclasses import replace
from functools import partial
from pathlib import Path

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.store import Disk, Evidence, Image, Space
from cuckoo_zfsiscsi.disk.store.clone import clone, differs
from cuckoo_zfsiscsi.disk.store.facts import Facts
from cuckoo_zfsiscsi.disk.store.file_disks import Base, HostDisks
from cuckoo_zfsiscsi.disk.store.file_drafts import Drafts
from cuckoo_zfsiscsi.disk.store.file_images import NAME, Golden, Images
from cuckoo_zfsiscsi.disk.store.file_room import missing, no_room
from cuckoo_zfsiscsi.disk.store.guard import guarded
from cuckoo_zfsiscsi.disk.store.record import make_directory, try_lock
from cuckoo_zfsiscsi.disk.store.server import Server
from cuckoo_zfsiscsi.errors import DiskError, ImageError, UnprovenDiskError
from cuckoo_zfsiscsi.progress import Progress, silent

LOCK = "lock"
"""Locked while the store is open. Its lines: the process that has it open; the server, until that
gives it up."""
LOCK_TIMEOUT = 30.0
"""Seconds to wait for another process that changes the list of images: that takes milliseconds."""


class FileStore:
    """Store in a directory. Implements the Store protocol; safe between threads.

    Images may be managed without open(), by another process than the one that has it open.

    Args:
        path: of the store; made if it is not there. Best on btrfs or XFS: disks are clones by
            reference then, made in milliseconds.
        immutable: sealed images can't be changed even by root until chattr -i (where the file
            system can), nor removed by rm.
        run: bytes that each run may write, as reckoned before a host is armed; 0: the least.
        hosts: labels of those that there are; all that have disks here if not told.
        server: this one, as against others that see the same folder.
    """

    def __init__(
        self,
        path: Path,
        *,
        immutable: bool = True,
        run: int = 0,
        hosts: Collection[str] | None = None,
        server: Server | None = None,
    ) -> None:
        self.path = path
        self._run = run
        self._labels = hosts
        self._server = server or Server.here()
        self._arming = threading.Lock()
        self._images = Images(path / "images", immutable=immutable)
        self._drafts = Drafts(self._images)
        self._hosts: dict[str, HostDisks] = {}
        self._hosts_lock = threading.Lock()
        self._lock: int | None = None

    @guarded
    def open(self) -> None:
        """As Store.open()."""
        self._prepare()
        handle = os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            is_ours = try_lock(handle)
            had = os.pread(handle, 4096, 0).decode("ascii", "replace").splitlines()
            if not is_ours:
                owner = had[0].strip() if had else "unknown"
                raise DiskError(
                    f"the store {self.path} is in use by another service, process {owner}",
                    fix=f"stop that one first; look at it with: ps -fp {owner}",
                )
            self._own(handle, Server.parse("".join(had[1:2])))
            with self._images.lock(Deadline(LOCK_TIMEOUT)):
                self._images.tidy()
            for directory in sorted(self._disks.iterdir()):
                HostDisks(directory).recover()
        except BaseException:
            os.close(handle)
            raise
        self._lock = handle

    def _own(self, handle: int, had: Server | None) -> None:
        """Put on record who has the store: a lock may not reach as far as the files do.

        In place, beside the process: a full file system has no room for another file.

        Raises:
            DiskError: another server, or its clone, had it and did not give it up.
        """
        self._server.check_owner(had, self.path, f"rm {self.path / LOCK}")
        _write_lock(handle, f"{os.getpid()}\n{self._server}\n")

    def close(self) -> None:
        """As Store.close()."""
        if self._lock is not None:
            with contextlib.suppress(OSError):
                _write_lock(self._lock, f"{os.getpid()}\n")
            os.close(self._lock)
            self._lock = None

    @guarded
    def images(self) -> list[Image]:
        """As Store.images()."""
        return [self._sized(golden.image) for golden in self._images.all()]

    @guarded
    def find_image(self, ref: str) -> Image:
        """As Store.find_image()."""
        return self._images.find(ref).image

    @guarded
    def import_image(
        self, name: str, source: Path, *, deadline: Deadline, progress: Progress
    ) -> Image:
        """As Store.import_image()."""
        self._prepare()
        image = self._images.add(name, source, deadline=deadline, progress=progress)
        return self._sized(image)

    @guarded
    def seal(self, ref: str, *, deadline: Deadline, progress: Progress) -> Image:
        """As Store.seal()."""
        return self._sized(self._images.seal(ref, deadline=deadline, progress=progress))

    def _sized(self, image: Image) -> Image:
        """Return it with the bytes that its file takes."""
        with contextlib.suppress(FileNotFoundError):  # deleted at this moment
            path = self._images.root / image.name / f"{image.version}.raw"
            return replace(image, used=path.stat().st_blocks * 512)
        return image

    @guarded
    def delete_image(self, ref: str) -> None:
        """As Store.delete_image()."""
        self._prepare()
        with self._images.lock(Deadline(LOCK_TIMEOUT)):
            golden = self._images.find(ref, sealed=False)
            if ref != golden.image.ref:
                raise ImageError(f"{ref} does not say which version", fix=f"{golden.image.ref}?")
            if users := sorted(self._owners(ref)):
                raise ImageError(
                    f"image {ref} is in use by {', '.join(users)}",
                    fix="give them another image (snapshot = ...), reset them, then try again",
                )
            self._images.remove(golden)

    @guarded
    def users(self, ref: str) -> list[str]:
        """Return the hosts that have a disk, a retired one too, that is a clone of this image.

        And the one that edits it.
        """
        return sorted({*self._owners(ref), *self._editors(ref)})

    def _editors(self, ref: str) -> set[str]:
        return {one.editor for one in self._images.all() if one.image.ref == ref} - {""}

    def _owners(self, ref: str) -> set[str]:
        records = self._disks.glob("*/[1-9]*.json")
        bases = [(path.parent.name, Base.read(path)) for path in records]
        return {host for host, base in bases if base and base.image == ref}

    @guarded
    def current(self, host: str) -> Disk | None:
        """As Store.current()."""
        disks = self._host(host)
        generation = disks.roles().current
        return None if generation is None else disks.disk(generation, "current")

    @guarded
    def disks(self, host: str) -> list[Disk]:
        """As Store.disks()."""
        disks = self._host(host)
        roles = disks.roles()
        found = [] if roles.current is None else [disks.disk(roles.current, "current")]
        found += [] if roles.spare is None else [disks.disk(roles.spare, "spare")]
        return [*found, *map(_draft, self._drafts.of(host))]

    def rollback_image(self, ref: str) -> Image:
        """As Store.rollback_image(): not with files."""
        raise ImageError(
            f"the file store has no rollback, so none to {ref}",
            fix=f"name the version in zfsiscsi.conf: snapshot = {ref}; or use store = zfs",
        )

    @guarded
    def edit_image(self, host: str, name: str, *, deadline: Deadline) -> Disk:
        """As Store.edit_image()."""
        disks = self._host(host)
        with disks.hold(deadline):
            roles = disks.roles()
            disks.save(replace(roles, last=roles.last + 1))
            draft = self._drafts.edit(name, host, roles.last + 1, deadline=deadline)
        return _draft(draft)

    @guarded
    def make_spare(self, host: str, image: str, *, deadline: Deadline, progress: Progress) -> Disk:
        """As Store.make_spare()."""
        disks = self._host(host)
        with disks.hold(deadline):
            generation = self._spare(disks, image, deadline, progress)
            return disks.disk(generation, "spare")

    def _spare(self, disks: HostDisks, image: str, deadline: Deadline, progress: Progress) -> int:
        """Return the generation of the spare, made now if there is none of this image."""
        golden = self._images.find(image)
        roles = disks.roles()
        if roles.spare is not None and disks.is_clean(roles.spare, golden):
            return roles.spare
        golden = self._images.verify(golden, deadline=deadline)
        generation = roles.last + 1
        roles = replace(roles, last=generation, spare=None)
        base = Base(golden.image.ref, golden.image.digest)
        with self._images.lock(deadline):
            self._images.find(base.image)  # deleted meanwhile? From here on it is in use
            disks.save(roles)
            disks.write_base(generation, base)
        path = disks.path(generation)
        try:
            digest = base.digest
            shared = clone(golden.path, path, digest=digest, deadline=deadline, progress=progress)
            if Facts.of(golden.path) != golden.facts or differs(path, golden.path):
                raise ImageError(f"image {base.image} was changed while it was cloned")
            base = replace(base, facts=Facts.settled(path), shared=shared)
            disks.write_base(generation, base)
        except BaseException:
            disks.drop(generation)
            raise
        disks.save(replace(roles, spare=generation))
        return generation

    @guarded
    def swap(self, host: str, image: str, *, deadline: Deadline) -> Disk:
        """Make the spare the current disk, now."""
        disks = self._host(host)
        with disks.hold(deadline):
            generation = self._spare(disks, image, deadline, silent)
            disks.save(replace(disks.roles(), current=generation, spare=None))
            return disks.disk(generation, "current")

    def begin_swap(self, host: str, image: str, *, deadline: Deadline) -> Callable[[], Disk]:
        """As Store.begin_swap(): there is nothing to look at before."""
        return partial(self.swap, host, image, deadline=deadline)

    def rollback(self, host: str, image: str, *, deadline: Deadline) -> Disk:
        """As Store.rollback(): files have no snapshots, so it always is a swap."""
        return self.swap(host, image, deadline=deadline)

    @guarded
    def prove(self, disk: Disk, *, deadline: Deadline) -> None:
        """As Store.prove()."""
        disks = self._host(disk.host)
        roles, base = disks.roles(), disks.base(disk.generation)
        if base is None or disk.generation not in (roles.current, roles.spare):
            raise _unproven(disk, "it is not this host's current or spare disk")
        try:
            if flaw := base.flaw(disks.path(disk.generation)):
                raise _unproven(disk, flaw)
            golden = self._verified(disk, base, deadline)
            if flaw := differs(disks.path(disk.generation), golden.path):
                raise _unproven(disk, f"disk and image differ: {flaw}")
        except FileNotFoundError as error:
            raise _unproven(disk, f"{error.filename} is gone") from None

    def _verified(self, disk: Disk, base: Base, deadline: Deadline) -> Golden:
        """Return the image that the disk was cloned from, unchanged since."""
        try:
            golden = self._images.verify(self._images.find(base.image), deadline=deadline)
        except ImageError as error:
            raise _unproven(disk, error.what) from error
        if golden.image.digest != base.digest or disk.image != base.image:
            raise _unproven(disk, f"it is not a clone of {disk.image} as it is now")
        return golden

    @guarded
    def taint(self, disk: Disk) -> None:
        """As Store.taint()."""
        disks = self._host(disk.host)
        if (base := disks.base(disk.generation)) is None:
            raise DiskError(f"no generation {disk.generation} of {disk.host}", fix="reset the host")
        with self._arming:  # of two hosts the second sees the first
            self._check_room(disk, disks, base)
            disks.write_base(disk.generation, replace(base, tainted=True))

    def _check_room(self, disk: Disk, disks: HostDisks, base: Base) -> None:
        """See to it that no run can take what another one needs. One alone may do as it likes.

        Raises:
            StoreFullError: there is not enough for all that are armed.
        """
        folders = [folder for folder in self._disks.iterdir() if self._is_host(folder.name)]
        others = [HostDisks(folder) for folder in folders if folder.name != disk.host]
        armed = [one for one in (other.armed() for other in others) if one is not None]
        own = disks.as_armed(disk.generation, base)
        if not armed or own is None:
            return
        free = shutil.disk_usage(self.path).free
        if lacking := missing(free, [*armed, own], self._run):
            raise no_room(disk.host, self.path, lacking, len(armed) + 1)

    def _is_host(self, label: str) -> bool:
        return self._labels is None or label in self._labels

    @guarded
    def discard_retired(self, host: str, *, deadline: Deadline) -> int:
        """As Store.discard_retired()."""
        disks = self._host(host)
        with disks.hold(deadline):
            retired = disks.retired()
        for generation in retired:
            deadline.check(f"dropping retired disks of {host}")
            disks.drop(generation)
        return len(retired)

    @guarded
    def spares(self, host: str) -> int:
        """As Store.spares()."""
        return int(self._host(host).roles().spare is not None)

    @guarded
    def space(self, *, deadline: Deadline) -> Space:
        """As Store.space()."""
        deadline.check(f"looking how full {self.path} is")
        found = shutil.disk_usage(self.path)
        return Space(found.total, found.free)

    def kept(self, *, deadline: Deadline) -> list[Evidence]:  # noqa: ARG002
        """As Store.kept(): none."""
        return []

    @property
    def _disks(self) -> Path:
        return self.path / "disks"

    def _prepare(self) -> None:
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        for part in ("images", "disks"):
            make_directory(self.path / part)

    def _host(self, host: str) -> HostDisks:
        if self._lock is None:
            raise DiskError(f"the store {self.path} is not open")
        if not NAME.fullmatch(host):
            raise DiskError(f"{host!r} can't be a host's name", fix="letters, digits, . _ -")
        with self._hosts_lock:
            if host not in self._hosts:
                self._hosts[host] = HostDisks(self._disks / host)
                make_directory(self._disks / host)
            return self._hosts[host]


def _write_lock(handle: int, text: str) -> None:
    os.pwrite(handle, text.encode(), 0)
    os.ftruncate(handle, len(text.encode()))
    os.fsync(handle)


def _draft(golden: Golden) -> Disk:
    return Disk(golden.editor, golden.generation, golden.image.ref, golden.path, "draft")


def _unproven(disk: Disk, why: str) -> UnprovenDiskError:
    return UnprovenDiskError(
        f"generation {disk.generation} of {disk.host} can't be proven clean: {why}",
        fix=f"zfsiscsi reset {disk.host}",
    )

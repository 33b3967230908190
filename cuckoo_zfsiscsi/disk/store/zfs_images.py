"""The image half of the ZFS store: volumes, and a held snapshot of each that is sealed."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
from pathlib import Path

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.bounded import bounded
from cuckoo_zfsiscsi.disk.store import Image
from cuckoo_zfsiscsi.disk.store import zfs_catalogue as catalogue
from cuckoo_zfsiscsi.disk.store import zfs_device as device
from cuckoo_zfsiscsi.disk.store.convert import convert, inspect
from cuckoo_zfsiscsi.disk.store.zfs_call import Zfs
from cuckoo_zfsiscsi.disk.store.zfs_catalogue import Folder, Golden
from cuckoo_zfsiscsi.disk.store.zfs_drop import drop
from cuckoo_zfsiscsi.disk.store.zfs_error import ignoring, refused
from cuckoo_zfsiscsi.disk.store.zfs_import import BLOCK, Imports
from cuckoo_zfsiscsi.disk.store.zfs_layout import (
    EDITOR,
    GENERATION,
    LAST,
    NAME,
    ROLE,
    SAMPLE,
    STANDS,
    Layout,
)
from cuckoo_zfsiscsi.disk.store.zfs_lease import catalogue_lock
from cuckoo_zfsiscsi.disk.store.zfs_space import Room
from cuckoo_zfsiscsi.errors import DiskError, ImageError, StoreFullError
from cuckoo_zfsiscsi.progress import Progress

_LOOK_TIMEOUT = 10.0


class Images:
    """Images of one store. Safe between processes: the catalogue changes under a lock alone.

    A conversion takes minutes and holds no lock of others.
    """

    def __init__(self, layout: Layout, zfs: Zfs, room: Room) -> None:
        self._layout = layout
        self._zfs = zfs
        self._room = room
        self._imports = Imports(layout, zfs)

    def all(self, deadline: Deadline) -> list[Folder]:
        """Return every image, with every version."""
        return catalogue.read(self._layout, self._zfs, deadline)

    def folder(self, name: str, deadline: Deadline) -> Folder:
        """Return one image; without versions when it is not there."""
        return catalogue.look(self._layout, self._zfs, name, [], deadline)[0]

    def find(self, ref: str, deadline: Deadline) -> Golden:
        """Resolve name or name@version to a sealed version. As Store.find_image()."""
        name, version = catalogue.parse(ref)
        return self.folder(name, deadline).resolve(version)

    def add(self, name: str, source: Path, *, deadline: Deadline, progress: Progress) -> Image:
        """Import the next version, not sealed. As Store.import_image()."""
        if not NAME.fullmatch(name):
            raise ImageError(f"{name!r} can't be an image's name", fix="letters, digits, . _ -")
        found = inspect(source, deadline=deadline)
        self._room.make(found.allocated, f"image {name}", deadline=deadline)
        size = -(-found.size // BLOCK) * BLOCK
        with self._imports.volume(size, deadline) as (dataset, path):
            try:
                convert(found, path, into_device=True, deadline=deadline, progress=progress)
            except StoreFullError:
                raise refused(f"importing {source}", errno.ENOSPC) from None
            self._zfs.sync(deadline=deadline)
            with catalogue_lock(self._layout, deadline):
                version = self.next_version(name, deadline)
                self._zfs.set([(dataset, ROLE, "draft")], deadline=deadline)
                final = self._layout.image(name, version)
                self._zfs.rename(dataset, final, deadline=deadline)
        return self.folder(name, deadline).any(version).image

    def next_version(self, name: str, deadline: Deadline) -> int:
        """Give a version away, for good. With the catalogue's lock held."""
        dataset = f"{self._layout.images}/{name}"
        with ignoring(errno.EEXIST):
            self._zfs.create_folder(dataset, {}, deadline=deadline)
        folder = self.folder(name, deadline)
        version = 1 + max([folder.last, *(one.image.version for one in folder.versions)])
        self._zfs.set([(dataset, LAST, str(version))], deadline=deadline)
        return version

    def seal(self, ref: str, *, deadline: Deadline) -> Image:
        """As Store.seal(). Of "name" the newest version, sealed or not."""
        name, version = catalogue.parse(ref)
        with catalogue_lock(self._layout, deadline):
            golden = self.folder(name, deadline).any(version)
            if not golden.image.sealed:
                self._snapshot(golden, deadline)
                golden = self.folder(name, deadline).any(golden.image.version)
            self._finish_seal(golden, deadline)
        return golden.image

    def _snapshot(self, golden: Golden, deadline: Deadline) -> None:
        path = device.wait_for(golden.dataset, deadline)
        patience = deadline.within(device.CLAIM_TIMEOUT)
        what = f"reading {golden.image.ref}"
        try:
            # With this claim nobody can export it or have it exported
            with device.claimed(path, golden.image.ref, patience, write=True) as handle:
                bounded(functools.partial(os.fsync, handle), what, deadline)
                before = device.count_writes(path)
                sample = bounded(functools.partial(device.sample, path), what, deadline)
                facts = {SAMPLE: sample}
                self._zfs.snapshot([golden.sealed], facts, deadline=deadline)
                if device.count_writes(path) != before:
                    self._zfs.destroy([golden.sealed], deadline=deadline)
                    raise ImageError(
                        f"image {golden.image.ref} was written while it was sealed",
                        fix="seal it again",
                    )
        except DiskError as error:
            if golden.editor and not isinstance(error, ImageError):
                raise _still_edited(golden, "sealed", error) from error
            raise

    def _finish_seal(self, golden: Golden, deadline: Deadline) -> None:
        """Hold what is sealed, and let the name stand for it. Can be done again."""
        if not golden.held:
            self._zfs.hold([golden.sealed], deadline=deadline)
        if golden.role == "image":
            return
        self._zfs.command("zfs", "set", "readonly=on", golden.dataset, deadline=deadline)
        facts = {ROLE: "image", EDITOR: "", GENERATION: ""}
        folder = f"{self._layout.images}/{golden.image.name}"
        self._zfs.set(
            [(folder, STANDS, ""), *((golden.dataset, *fact) for fact in facts.items())],
            deadline=deadline,
        )

    def stand(self, ref: str, *, deadline: Deadline) -> Image:
        """As Store.rollback_image()."""
        name, version = catalogue.parse(ref)
        if not version:
            raise ImageError(f"{ref} does not say which version", fix="zfsiscsi image list")
        with catalogue_lock(self._layout, deadline):
            folder = self.folder(name, deadline)
            golden = folder.resolve(version)
            newest = max(one.image.version for one in folder.versions if one.image.sealed)
            stands = "" if version == newest else str(version)
            dataset = f"{self._layout.images}/{name}"
            self._zfs.set([(dataset, STANDS, stands)], deadline=deadline)
        return golden.image

    def remove(self, ref: str, *, deadline: Deadline) -> None:
        """As Store.delete_image()."""
        name, version = catalogue.parse(ref)
        with catalogue_lock(self._layout, deadline):
            golden = self.folder(name, deadline).any(version)
            if not version:
                raise ImageError(f"{ref} does not say which version", fix=f"{golden.image.ref}?")
            self._refuse_while_used(golden)
            try:
                drop(self._zfs, golden.dataset, deadline=deadline)
            except BaseException as error:
                if golden.image.sealed:  # a clone was made at the last moment, or a device is open
                    with contextlib.suppress(DiskError):
                        self._zfs.hold([golden.sealed], deadline=Deadline(_LOOK_TIMEOUT))
                elif golden.editor and isinstance(error, DiskError):
                    raise _still_edited(golden, "deleted", error) from error
                raise

    def _refuse_while_used(self, golden: Golden) -> None:
        ref = golden.image.ref
        if users := self._owners(golden):
            raise ImageError(
                f"image {ref} is in use by {', '.join(users)}",
                fix="give them another image (snapshot = ...), reset them, then try again",
            )
        clones = [name.removeprefix(f"{self._layout.parent}/") for name in golden.clones]
        if kept := [one.partition("/")[2] for one in clones if one.startswith("evidence/")]:
            raise ImageError(
                f"image {ref} is what evidence was made from: {', '.join(kept)}",
                fix=f"zfsiscsi evidence delete {' '.join(kept)}",
            )
        later = [one.removeprefix("images/").replace("/", "@") for one in clones]
        if later:
            raise ImageError(
                f"image {ref} is what was edited to make {', '.join(later)}",
                fix=f"zfsiscsi image delete {later[0]} first, or keep both: they share blocks",
            )

    def users(self, golden: Golden) -> list[str]:
        """Return the hosts that have a disk that is a clone of it, and the one that edits it."""
        return sorted({*self._owners(golden), golden.editor} - {""})

    def _owners(self, golden: Golden) -> list[str]:
        """Return the hosts that have a disk, a retired one too, that is a clone of it."""
        place = f"{self._layout.disks}/"
        clones = [name.removeprefix(place) for name in golden.clones if name.startswith(place)]
        return sorted({name.partition("/")[0] for name in clones})

    def tidy(self, deadline: Deadline) -> None:
        """Finish or undo what a crash left."""
        with catalogue_lock(self._layout, deadline):
            self._imports.tidy(deadline)
            for folder in self.all(deadline):
                for golden in folder.versions:
                    if golden.image.sealed and not (golden.held and golden.role == "image"):
                        self._finish_seal(golden, deadline)


def _still_edited(golden: Golden, what: str, error: DiskError) -> ImageError:
    host = golden.editor
    again = {"sealed": "seal", "deleted": "delete"}[what]
    return ImageError(
        f"{golden.image.ref} can't be {what}, {host} still has it: {error.what}",
        fix=f"shut {host} down, zfsiscsi maintenance {host} off, then {again} it again",
    )

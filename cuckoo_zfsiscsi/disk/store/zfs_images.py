"""The image half of the ZFS store: volumes, and a held snapshot of each that is sealed."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.bounded import bounded
from cuckoo_zfsiscsi.disk.store import Image
from cuckoo_zfsiscsi.disk.store import zfs_catalogue as catalogue
from cuckoo_zfsiscsi.disk.store import zfs_device as device
from cuckoo_zfsiscsi.disk.store.convert import convert, inspect
from cuckoo_zfsiscsi.disk.store.zfs_call import Zfs
from cuckoo_zfsiscsi.disk.store.zfs_catalogue import Folder, Golden
from cuckoo_zfsiscsi.disk.store.zfs_drop import LOOK, drop, left_behind
from cuckoo_zfsiscsi.disk.store.zfs_error import ignoring, refused
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

BLOCK = 16384
"""volblocksize, bytes: small enough for random writes, large enough to compress."""
_LOOK_TIMEOUT = 10.0
_CLAIM_TIMEOUT = 5.0
"""Seconds in which udev ends looking at a device."""
_DROP_TIMEOUT = 30.0


class Images:
    """Images of one store. Safe between processes: the catalogue changes under a lock alone.

    A conversion takes minutes and holds no lock of others.
    """

    def __init__(self, layout: Layout, zfs: Zfs, room: Room) -> None:
        self._layout = layout
        self._zfs = zfs
        self._room = room

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
        with self._filling(size, deadline) as (dataset, path):
            try:
                convert(found, path, into_device=True, deadline=deadline, progress=progress)
            except StoreFullError:
                raise refused(f"importing {source}", errno.ENOSPC) from None
            self._zfs.sync(deadline=deadline)
            with catalogue_lock(self._layout, deadline):
                version = self._next_version(name, deadline)
                self._zfs.set([(dataset, ROLE, "draft")], deadline=deadline)
                final = self._layout.image(name, version)
                self._zfs.rename(dataset, final, deadline=deadline)
        return self.folder(name, deadline).any(version).image

    @contextlib.contextmanager
    def _filling(self, size: int, deadline: Deadline) -> Iterator[tuple[str, Path]]:
        """Make a volume to fill, ours by its claim: tidy() removes those that nobody has."""
        dataset = f"{self._layout.imports}/{secrets.token_hex(8)}"
        with contextlib.ExitStack() as stack:
            with catalogue_lock(self._layout, deadline):
                self._tidy_imports(deadline)
                self._zfs.create_volume(dataset, size, BLOCK, {ROLE: "import"}, deadline=deadline)
                stack.callback(self._drop_quietly, dataset)
                path = device.wait_for(dataset, deadline)
                stack.enter_context(device.claimed(path, dataset, deadline.within(_CLAIM_TIMEOUT)))
            yield dataset, path

    def _drop_quietly(self, dataset: str) -> None:
        """Remove what was not adopted; what was has another name."""
        with contextlib.suppress(DiskError):
            drop(self._zfs, dataset, deadline=Deadline(_DROP_TIMEOUT))

    def _next_version(self, name: str, deadline: Deadline) -> int:
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
        patience = deadline.within(_CLAIM_TIMEOUT)
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

    def edit(self, name: str, host: str, generation: int, *, deadline: Deadline) -> Golden:
        """Return the draft of an image for this host, made now if there is none.

        Args:
            name: of the image.
            host: that edits it.
            generation: of the host's, if it becomes the editor now.
            deadline: for it.

        Raises:
            ImageError: no such image, or another host has the draft.
        """
        name, version = catalogue.parse(name)
        if version:
            raise ImageError(
                f"{name}@{version} is one version, and a sealed one never changes",
                fix=f"zfsiscsi image edit {host} {name}, which makes the next one",
            )
        with catalogue_lock(self._layout, deadline):
            folder = self.folder(name, deadline)
            drafts = [one for one in folder.versions if not one.image.sealed]
            if drafts:
                draft = drafts[-1]
                if draft.editor not in ("", host):
                    raise ImageError(
                        f"{draft.image.ref} is being edited by {draft.editor}",
                        fix=f"zfsiscsi image seal {draft.image.ref}, or delete it",
                    )
                dataset, number = draft.dataset, draft.image.version
            else:
                golden = folder.resolve(0)
                self._room.make(0, f"a draft of {name}", deadline=deadline)
                number = self._next_version(name, deadline)
                dataset = self._layout.image(name, number)
                facts = {ROLE: "draft"}
                self._zfs.clone(dataset, golden.sealed, facts, deadline=deadline)
            if not drafts or not drafts[-1].editor:
                facts = {ROLE: "draft", EDITOR: host, GENERATION: str(generation)}
                self._zfs.set([(dataset, *one) for one in facts.items()], deadline=deadline)
            return self.folder(name, deadline).any(number)

    def drafts(self, host: str, deadline: Deadline) -> list[Golden]:
        """Return the drafts that a host edits."""
        found = [one for folder in self.all(deadline) for one in folder.versions]
        return [one for one in found if not one.image.sealed and one.editor == host]

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
            self._tidy_imports(deadline)
            for folder in self.all(deadline):
                for golden in folder.versions:
                    if golden.image.sealed and not (golden.held and golden.role == "image"):
                        self._finish_seal(golden, deadline)

    def _tidy_imports(self, deadline: Deadline) -> None:
        """Drop half-made imports that nobody is at. With the catalogue's lock held."""
        program = """
            local argv = ...
            local found = {}
            for dataset in zfs.list.children(argv["argv"][1]) do found[dataset] = true end
            return found
        """
        for dataset in self._zfs.read(program, [self._layout.imports], deadline=deadline):
            with left_behind(dataset):  # someone may be filling it
                drop(self._zfs, dataset, deadline=deadline.within(LOOK))


def _still_edited(golden: Golden, what: str, error: DiskError) -> ImageError:
    host = golden.editor
    again = {"sealed": "seal", "deleted": "delete"}[what]
    return ImageError(
        f"{golden.image.ref} can't be {what}, {host} still has it: {error.what}",
        fix=f"shut {host} down, zfsiscsi maintenance {host} off, then {again} it again",
    )

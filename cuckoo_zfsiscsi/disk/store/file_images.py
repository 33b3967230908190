"""The image half of the file store: images/NAME/VERSION.raw, with a record beside each."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.store import Image
from cuckoo_zfsiscsi.disk.store.clone import check_space, hash_file
from cuckoo_zfsiscsi.disk.store.convert import convert, inspect
from cuckoo_zfsiscsi.disk.store.facts import Facts, opened_by, protect, unprotect
from cuckoo_zfsiscsi.disk.store.record import (
    PART,
    locked,
    make_directory,
    read_record,
    sync_directory,
    try_lock,
    write_record,
)
from cuckoo_zfsiscsi.errors import ImageError
from cuckoo_zfsiscsi.progress import Progress, silent

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_REF = re.compile(rf"({NAME.pattern})(?:@([1-9][0-9]{{0,8}}))?")
_LIST = "zfsiscsi image list"


@dataclass(frozen=True, slots=True)
class Golden:
    """An image and its file."""

    image: Image
    path: Path
    facts: Facts
    editor: str = ""
    """Host that changes it, while it is not sealed."""
    generation: int = 0
    """Of that host's."""

    @classmethod
    def read(cls, record: Path) -> Golden | None:
        """Read a record; None when it is gone. Raises DiskError when it is damaged."""
        if (found := read_record(record)) is None:
            return None
        facts = Facts(**found.pop("facts"))
        editing = found.pop("editor", ""), found.pop("generation", 0)
        return cls(Image(**found), record.with_suffix(".raw"), facts, *editing)

    def write(self) -> None:
        """Put it on record, durably."""
        record = {**asdict(self.image), "facts": asdict(self.facts)}
        if self.editor:
            record |= {"editor": self.editor, "generation": self.generation}
        write_record(self.path.with_suffix(".json"), record)

    def refuse_while_open(self, what: Literal["sealed", "deleted"]) -> None:
        """Refuse what must not be done to a draft while the target has it.

        Raises:
            ImageError: it has.
        """
        if self.editor and (who := opened_by(self.path)):
            again = {"sealed": "seal", "deleted": "delete"}[what]
            raise ImageError(
                f"{self.image.ref} can't be {what}, {self.editor} still has it: {who} has it open",
                fix=f"shut {self.editor} down, zfsiscsi maintenance {self.editor} off, "
                f"then {again} it again",
            )


class Images:
    """Images of one store. Safe between processes: the catalogue changes under a lock alone.

    A conversion or a hash takes minutes and holds no lock of others.
    """

    def __init__(self, root: Path, *, immutable: bool) -> None:
        self.root = root
        self._immutable = immutable

    def lock(self, deadline: Deadline) -> contextlib.AbstractContextManager[None]:
        """Hold the catalogue: who adds, seals, deletes or begins to use an image.

        Raises:
            DeadlineExceededError, CancelledError: another process holds it.
        """
        make_directory(self.root)
        return locked(self.root / "lock", deadline, "waiting for the images' lock")

    def all(self) -> list[Golden]:
        """Every version, by name and version."""
        found = [Golden.read(path) for path in self.root.glob("*/[1-9]*.json")]
        there = [golden for golden in found if golden]
        return sorted(there, key=lambda golden: (golden.image.name, golden.image.version))

    def find(self, ref: str, *, sealed: bool = True) -> Golden:
        """Resolve name (the newest) or name@version.

        Args:
            ref: of the image.
            sealed: look at sealed ones only.

        Raises:
            ImageError: no such image, or it is not sealed.
        """
        if not (match := _REF.fullmatch(ref)):
            raise ImageError(f"{ref!r} is no image: it is NAME or NAME@VERSION", fix=_LIST)
        name, version = match.groups()
        found = [g for g in self.all() if g.image.name == name]
        if version:
            found = [g for g in found if g.image.version == int(version)]
        if not found:
            raise ImageError(
                f"no image {ref}", fix=f"zfsiscsi image import {name} FILE, or {_LIST}"
            )
        usable = [g for g in found if g.image.sealed or not sealed]
        if not usable:
            raise ImageError(f"image {ref} is not sealed", fix=f"zfsiscsi image seal {ref}")
        return usable[-1]

    def add(self, name: str, source: Path, *, deadline: Deadline, progress: Progress) -> Image:
        """Import the next version, not sealed. As Store.import_image()."""
        if not NAME.fullmatch(name):
            raise ImageError(f"{name!r} can't be an image's name", fix="letters, digits, . _ -")
        found = inspect(source, deadline=deadline)
        check_space(self.root, found.allocated)
        with self.part(deadline) as part:
            convert(found, part, deadline=deadline, progress=progress)
            with part.open("rb") as file:
                os.fsync(file.fileno())
            with self.lock(deadline):
                return self.adopt(name, part)

    @contextlib.contextmanager
    def part(self, deadline: Deadline) -> Iterator[Path]:
        """Make a file to fill, ours by its lock: tidy() removes those that nobody has locked."""
        part = self.root / f"{secrets.token_hex(8)}{PART}"
        with self.lock(deadline):
            self.tidy()
            handle = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            try_lock(handle)
        try:
            yield part
        finally:
            part.unlink(missing_ok=True)
            os.close(handle)

    def adopt(self, name: str, part: Path) -> Image:
        """Make a filled file the next version, not sealed. Call it with the lock held."""
        directory = self.root / name
        make_directory(directory)
        counter = directory / "last.json"
        version = int((read_record(counter) or {"version": 0})["version"]) + 1
        write_record(counter, {"version": version})  # never used again, also after a deletion
        path = directory / f"{version}.raw"
        part.rename(path)
        try:
            facts = Facts.settled(path)
            image = Image(name, version, facts.size, sealed=False, digest="", created=time.time())
            Golden(image, path, facts).write()
        except BaseException:
            path.unlink()
            raise
        return image

    def seal(self, ref: str, *, deadline: Deadline, progress: Progress) -> Image:
        """As Store.seal(). Of "name" the newest version, sealed or not."""
        golden = self.find(ref, sealed=False)
        if golden.image.sealed:
            return golden.image
        golden.refuse_while_open("sealed")
        before = Facts.settled(golden.path)
        digest = hash_file(golden.path, deadline=deadline, progress=progress)
        with self.lock(deadline):
            golden = self.find(golden.image.ref, sealed=False)  # deleted meanwhile?
            protect(golden.path, immutable=self._immutable)
            facts = Facts.settled(golden.path)
            try:
                golden.refuse_while_open("sealed")
            except ImageError:
                unprotect(golden.path)
                raise
            if replace(facts, ctime_ns=before.ctime_ns) != before:
                unprotect(golden.path)
                raise ImageError(
                    f"image {ref} was written while it was sealed", fix="seal it again"
                )
            image = replace(golden.image, sealed=True, digest=digest)
            Golden(image, golden.path, facts).write()
        return image

    def verify(self, golden: Golden, *, deadline: Deadline, progress: Progress = silent) -> Golden:
        """Return the image when it is what was sealed: by its facts, or else by its content.

        Raises:
            ImageError: it is gone or was changed.
            DeadlineExceededError, CancelledError: not done.
        """
        ref = golden.image.ref
        try:
            if Facts.of(golden.path) == golden.facts:
                return golden
            now = Facts.settled(golden.path)
        except FileNotFoundError:
            raise ImageError(f"the file of image {ref} is gone", fix="import it again") from None
        digest = hash_file(golden.path, deadline=deadline, progress=progress)
        if digest != golden.image.digest or Facts.of(golden.path) != now:
            raise ImageError(
                f"image {ref} is not what was sealed: {golden.path} was changed",
                fix=f"import it again, and find out who changed it; zfsiscsi image delete {ref}",
            )
        with self.lock(deadline):
            self.find(ref)  # deleted meanwhile?
            golden = replace(golden, facts=now)
            golden.write()
        return golden

    def remove(self, golden: Golden) -> None:
        """Remove one version, used by nobody. Call it with the lock held.

        Raises:
            ImageError: it is a draft that a host still has.
        """
        golden.refuse_while_open("deleted")
        golden.path.with_suffix(".json").unlink()
        sync_directory(golden.path.parent)
        unprotect(golden.path)
        golden.path.unlink(missing_ok=True)

    def tidy(self) -> None:
        """Remove what crashed imports and deletions left. Call it with the lock held."""
        for part in self.root.glob(f"*/*{PART}"):
            part.unlink()  # records are written with the lock held: nobody is at it
        for raw in self.root.glob("*/*.raw"):
            if not raw.with_suffix(".json").exists():
                unprotect(raw)
                raw.unlink()
        for part in self.root.glob(f"*{PART}"):
            with part.open("rb") as file:
                if try_lock(file.fileno()):
                    part.unlink()

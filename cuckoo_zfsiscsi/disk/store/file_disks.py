"""The disk half of the file store: the disks of one host, and what is on record of them.

disks/HOST/host.json says which generation is current, which is the spare, and which was the last
number given away: one atomic change swaps. disks/HOST/GENERATION.json says what the disk was
cloned from and what its file looked like then; it is written once before the clone is begun, once
when it is whole, and once when the disk is tainted. Every generation that host.json does not name
is retired.
"""

from __future__ import annotations

import contextlib
import threading
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.store import Disk
from cuckoo_zfsiscsi.disk.store.facts import Facts
from cuckoo_zfsiscsi.disk.store.file_images import Golden
from cuckoo_zfsiscsi.disk.store.file_room import Armed
from cuckoo_zfsiscsi.disk.store.record import (
    PART,
    make_directory,
    read_record,
    sync_directory,
    write_record,
)
from cuckoo_zfsiscsi.errors import DiskError


@dataclass(frozen=True, slots=True)
class Roles:
    """Which of a host's generations is what; all others are retired."""

    last: int = 0
    """The last number given away."""
    current: int | None = None
    spare: int | None = None


@dataclass(frozen=True, slots=True)
class Base:
    """What a disk was when it was made: what its proof rests on."""

    image: str
    """name@version."""
    digest: str
    """The image's."""
    facts: Facts | None = None
    """Of the disk's file when it was whole; None while it is made."""
    tainted: bool = False
    shared: bool = True
    """Its blocks may be the image's: what is written takes others."""

    @classmethod
    def read(cls, path: Path) -> Base | None:
        """Read a record; None when there is none. Raises DiskError when it is damaged."""
        found = read_record(path)
        if found is None:
            return None
        facts = found.pop("facts")
        return cls(**found, facts=Facts(**facts) if facts else None)

    def flaw(self, path: Path) -> str:
        """Return why the file at path can't be clean any more, or "". Raises OSError."""
        if self.tainted:
            return "it was armed before"
        if self.facts is None:
            return "it was not made to the end"
        if Facts.of(path) != self.facts:
            return f"{path} was changed since it was made"
        return ""


class HostDisks:
    """The disks of one host. Callers hold() them while they change roles."""

    def __init__(self, directory: Path) -> None:
        self.host = directory.name
        self.directory = directory
        self._lock = threading.Lock()

    def hold(self, deadline: Deadline) -> contextlib.AbstractContextManager[None]:
        """Be the only one, among threads, who changes roles.

        Raises:
            DeadlineExceededError, CancelledError: someone else is at it, a long copy maybe.
        """
        what = f"waiting for another operation on the disks of {self.host}"
        return deadline.holding(self._lock, what)

    def roles(self) -> Roles:
        """Read the roles. Raises DiskError when the record is damaged."""
        return Roles(**(read_record(self.directory / "host.json") or {}))

    def save(self, roles: Roles) -> None:
        """Change the roles, durably and at once."""
        write_record(self.directory / "host.json", asdict(roles))

    def path(self, generation: int) -> Path:
        """Return the file of a generation."""
        return self.directory / f"{generation}.raw"

    def base(self, generation: int) -> Base | None:
        """Return what is on record of a generation."""
        return Base.read(self.directory / f"{generation}.json")

    def write_base(self, generation: int, base: Base) -> None:
        """Put it on record, durably."""
        write_record(self.directory / f"{generation}.json", asdict(base))

    def disk(self, generation: int, role: Literal["spare", "current"]) -> Disk:
        """Return a disk that is on record.

        Raises:
            DiskError: it is not.
        """
        if (base := self.base(generation)) is None:
            raise DiskError(f"the disk {self.path(generation)} has no record", fix="reset the host")
        return Disk(self.host, generation, base.image, self.path(generation), role)

    def is_clean(self, generation: int | None, golden: Golden) -> bool:
        """Whether this generation is an untouched clone of this image, judged by its facts."""
        if generation is None or (base := self.base(generation)) is None:
            return False
        if (base.image, base.digest) != (golden.image.ref, golden.image.digest):
            return False
        return not self._flaw(generation, base)

    def _flaw(self, generation: int, base: Base) -> str:
        try:
            return base.flaw(self.path(generation))
        except FileNotFoundError:
            return "its file is gone"

    def armed(self) -> Armed | None:
        """Return the current disk if a guest may write to it."""
        current = self.roles().current
        if current is None or not (base := self.base(current)) or not base.tainted:
            return None
        return self.as_armed(current, base)

    def as_armed(self, generation: int, base: Base) -> Armed | None:
        """Return a disk as it is once it is armed; None when its file is gone."""
        with contextlib.suppress(FileNotFoundError):
            stat = self.path(generation).stat()
            return Armed(stat.st_size, 0 if base.shared else stat.st_blocks * 512)
        return None

    def generations(self) -> set[int]:
        """Every generation of which there is anything left."""
        found = [*self.directory.glob("[1-9]*.raw"), *self.directory.glob("[1-9]*.json")]
        return {int(path.stem) for path in found if path.stem.isdigit()}

    def retired(self) -> list[int]:
        """Every generation that has no role any more, the oldest first."""
        roles = self.roles()
        return sorted(self.generations() - {roles.current, roles.spare})

    def drop(self, generation: int) -> None:
        """Remove a generation; while its record is there it counts as a user of its image."""
        self.path(generation).unlink(missing_ok=True)
        (self.directory / f"{generation}.json").unlink(missing_ok=True)
        sync_directory(self.directory)

    def recover(self) -> None:
        """Finish or undo what a crash left: half-made disks go, a doubtful spare is retired."""
        make_directory(self.directory)
        for part in self.directory.glob(f"*{PART}"):
            part.unlink()
        roles = self.roles()
        for generation in self.generations():
            base = self.base(generation)
            if base is None or base.facts is None:
                self.drop(generation)
        sound = roles
        if roles.current is not None and self.base(roles.current) is None:
            sound = replace(sound, current=None)
        if roles.spare is not None:
            base = self.base(roles.spare)
            if base is None or self._flaw(roles.spare, base):
                sound = replace(sound, spare=None)
        if sound != roles:
            self.save(sound)

"""The disks of one host in memory, which is the truth while the store is open."""

from __future__ import annotations

import contextlib
import logging
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.store import Disk
from cuckoo_zfsiscsi.disk.store.zfs_call import Facts
from cuckoo_zfsiscsi.disk.store.zfs_device import Writes
from cuckoo_zfsiscsi.disk.store.zfs_layout import ROLE, TAINTED, TAKEN
from cuckoo_zfsiscsi.disk.store.zfs_writer import Writer
from cuckoo_zfsiscsi.errors import DiskError

log = logging.getLogger(__name__)

Role = Literal["spare", "current", "retired", "dropped"]
"""A retired disk may become evidence, a dropped one is of no worth."""


@dataclass(slots=True)
class Clone:
    """One disk, and what its proof rests on."""

    host: str
    generation: int
    dataset: str
    image: str
    """name@version that it is a clone of."""
    origin: int
    """guid of that image's snapshot."""
    sample: str
    """That image's."""
    base: int
    """guid of its own @base; 0 when it is not known."""
    path: Path
    role: Role
    clean: Writes | None = None
    """Counts of its device when nothing had been written; None when that can't be told."""
    proven: Writes | None = None
    """Counts when all of it was proven last."""
    tainted: bool = False

    @property
    def snapshot(self) -> str:
        """Name of its @base."""
        return f"{self.dataset}@{TAKEN}"

    def is_of(self, ref: str, digest: str) -> bool:
        """Whether it is a clone of this image, as it was sealed; both as Image has them."""
        return (self.image, f"{self.origin:016x}") == (ref, digest)

    @property
    def disk(self) -> Disk:
        """Return it as others see it."""
        role: Literal["spare", "current"] = "spare" if self.role == "spare" else "current"
        return Disk(self.host, self.generation, self.image, self.path, role)


class HostDisks:
    """The disks of one host.

    Whoever changes roles holds them: that takes milliseconds. Whoever makes or drops disks in the
    background is the only one who is busy(); a swap to a spare does not wait for that.
    """

    def __init__(self, host: str, folder: str, writer: Writer) -> None:
        self.host = host
        self.folder = folder
        """The dataset above the disks."""
        self.made = False
        """The folder is there."""
        self.last = 0
        """Highest generation ever given away."""
        self._clones: list[Clone] = []
        self._writer = writer
        self._roles = threading.Lock()
        self._busy = threading.Lock()

    def hold(self, deadline: Deadline) -> contextlib.AbstractContextManager[None]:
        """Be the only one who changes roles.

        Raises:
            DeadlineExceededError, CancelledError: someone else is at it.
        """
        return self._held(self._roles, deadline)

    def busy(self, deadline: Deadline) -> contextlib.AbstractContextManager[None]:
        """Be the only one who makes, restores or drops disks.

        Raises:
            DeadlineExceededError, CancelledError: someone else is at it.
        """
        return self._held(self._busy, deadline)

    def _held(
        self, lock: threading.Lock, deadline: Deadline
    ) -> contextlib.AbstractContextManager[None]:
        return deadline.holding(lock, f"waiting for another operation on the disks of {self.host}")

    def add(self, clone: Clone) -> None:
        """Add a disk that was made or found."""
        self.last = max(self.last, clone.generation)
        self._clones = [*self._clones, clone]  # readers need no lock

    def forget(self, clone: Clone) -> None:
        """Take away one that is gone."""
        self._clones = [one for one in self._clones if one is not clone]

    def of(self, *roles: Role) -> list[Clone]:
        """Return those in a role, the oldest first."""
        found = [clone for clone in self._clones if clone.role in roles]
        return sorted(found, key=lambda clone: clone.generation)

    @property
    def current(self) -> Clone | None:
        """The one that the host boots from."""
        found = self.of("current")
        return found[-1] if found else None

    def find(self, generation: int) -> Clone:
        """Return a disk that is there.

        Raises:
            DiskError: there is no such generation.
        """
        for clone in self._clones:
            if clone.generation == generation:
                return clone
        raise DiskError(f"no generation {generation} of {self.host}", fix="reset the host")

    def change(self, clone: Clone, role: Role) -> None:
        """Give a disk a role, now in memory and soon in the pool."""
        log.debug("%s generation %d: %s -> %s", self.host, clone.generation, clone.role, role)
        clone.role = role
        self._writer.put([(clone.dataset, ROLE, role)])

    def promote(self, clone: Clone) -> None:
        """Make a spare the current disk, and retire the old one."""
        for old in self.of("current"):
            self.change(old, "retired")
        self.change(clone, "current")

    def record(self, facts: Facts, deadline: Deadline) -> None:
        """Put facts on record, and wait until they are."""
        self._writer.put(facts)
        self._writer.flush(deadline)

    def flush(self, deadline: Deadline) -> None:
        """Wait until all roles are on record."""
        self._writer.flush(deadline)

    def taint(self, clone: Clone) -> None:
        """Note that it may be written from now on."""
        clone.tainted, clone.proven = True, None
        self._writer.put([(clone.dataset, TAINTED, "yes")])

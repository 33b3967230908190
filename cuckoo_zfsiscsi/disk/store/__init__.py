"""The store protocol: images, and the disks that are cloned from them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.progress import Progress


@dataclass(frozen=True, slots=True)
class Image:
    """A golden OS disk, one version of it. Sealed ones never change."""

    name: str
    version: int
    size: int
    """Bytes that the guest sees."""
    sealed: bool
    digest: str
    """Identity of the content: SHA-256 (file store), snapshot's guid (ZFS store); "" while not
    sealed."""
    created: float
    """Seconds since the epoch."""
    used: int = field(default=0, compare=False)
    """Bytes that it takes in the store, as far as is known."""

    @property
    def ref(self) -> str:
        """Return name@version."""
        return f"{self.name}@{self.version}"


@dataclass(frozen=True, slots=True)
class Disk:
    """The writable clone of an image that one host boots from.

    A draft is an image's not yet sealed version, which the host that boots it changes.
    """

    host: str
    generation: int
    """Grows by one with each disk made for this host, and is never used again."""
    image: str
    """name@version of the image that it is a clone of; of a draft, its own."""
    path: Path
    """What the target exports: a file or a block device."""
    role: Literal["spare", "current", "draft"]


@dataclass(frozen=True, slots=True)
class Evidence:
    """One disk that was kept."""

    name: str
    """HOST-gGENERATION."""
    host: str
    generation: int
    image: str
    """name@version that the run began with."""
    kept: float
    """Seconds since the epoch."""
    changed: int
    """Bytes that the guest changed, about."""
    used: int
    """Bytes that it takes in the pool."""
    dataset: str
    """Where it is in the pool."""
    since: float = 0.0
    """When it was kept, in seconds that were counted while the server was up."""


@dataclass(frozen=True, slots=True)
class Space:
    """How full a store is, in bytes."""

    total: int
    """Of the pool, less redundancy and what ZFS keeps for itself; of the file system."""
    free: int
    """That the store may take: a quota counts, and what is promised to hosts is free."""
    run: int | None = None
    """That each host's run can write, whatever other hosts write; None: nobody promises any."""

    @property
    def percent(self) -> float:
        """Of all that is free."""
        return 100 * self.free / max(1, self.total)


class Store(Protocol):
    """Keeps images and disks. Every method is safe to call again after a crash at any step."""

    def open(self) -> None:
        """Take the store for this process alone and finish or undo what a crash left.

        Raises:
            DiskError: another service has it, or it is not usable.
        """
        ...

    def close(self) -> None:
        """Give the store up."""
        ...

    def images(self) -> list[Image]:
        """Every version of every image, by name and version."""
        ...

    def find_image(self, ref: str) -> Image:
        """Resolve "name" or "name@version" to a sealed version.

        A name stands for its newest one, or for that which it was rolled back to.

        Raises:
            ImageError: no such image, or it is not sealed.
        """
        ...

    def import_image(
        self, name: str, source: Path, *, deadline: Deadline, progress: Progress
    ) -> Image:
        """Make the next, not yet sealed version of an image from a disk file.

        Raises:
            ImageError: the source is missing, damaged or of an unknown format.
            StoreFullError: no space; nothing is left behind.
        """
        ...

    def seal(self, ref: str, *, deadline: Deadline, progress: Progress) -> Image:
        """Make an image read-only for good and put its digest on record.

        Raises:
            ImageError: no such image.
        """
        ...

    def delete_image(self, ref: str) -> None:
        """Delete one version.

        Raises:
            ImageError: no such image, or a disk is a clone of it.
        """
        ...

    def users(self, ref: str) -> list[str]:
        """Return the hosts that have a disk which is a clone of this image version."""
        ...

    def rollback_image(self, ref: str) -> Image:
        """Let the image's name stand for this version (name@version), until a newer is sealed.

        Raises:
            ImageError: no such sealed version.
        """
        ...

    def edit_image(self, host: str, name: str, *, deadline: Deadline) -> Disk:
        """Return the image's not yet sealed version, for this host to boot and change.

        Made now, as a clone of the version that the name stands for, if there is none.

        Raises:
            ImageError: no such image, or another host has the draft.
            StoreFullError: no space.
        """
        ...

    def current(self, host: str) -> Disk | None:
        """Return the disk that the host boots from; None before its first reset."""
        ...

    def disks(self, host: str) -> list[Disk]:
        """Return the host's disks that are not retired: the current one, the spares, a draft."""
        ...

    def make_spare(self, host: str, image: str, *, deadline: Deadline, progress: Progress) -> Disk:
        """Return the host's spare of this image (name or name@version), made now if there is none.

        A store that keeps several ahead makes those that are missing, and returns the next one to
        be swapped in.

        Raises:
            ImageError: no such sealed image, or it is not what was sealed.
            StoreFullError: no space, or none that can be promised to the host; nothing is left
                behind.
        """
        ...

    def begin_swap(self, host: str, image: str, *, deadline: Deadline) -> Callable[[], Disk]:
        """Begin to look which disk a swap takes; return what makes the swap.

        Until that is called nothing is changed. It makes the spare the current disk (made first if
        there is none), and the old one is retired. It raises:
            ImageError, StoreFullError: as make_spare().

        Raises:
            DiskError: the store is not open.
            DeadlineExceededError, CancelledError: the look was not begun.
        """
        ...

    def rollback(self, host: str, image: str, *, deadline: Deadline) -> Disk:
        """Restore the current disk in place: same disk, next generation (the paper's reset).

        The host must be fenced. Where that can't be, because there is no current disk, it is a
        clone of another image version, or it is kept as evidence, this is a swap.

        Raises:
            ImageError, StoreFullError: as make_spare().
            DiskError: it can't be restored; it is retired and the next call swaps.
        """
        ...

    def prove(self, disk: Disk, *, deadline: Deadline) -> None:
        """Prove that nothing was written to the disk since it was cloned, and from what.

        Raises:
            UnprovenDiskError: it can't be proven. The disk must not boot.
        """
        ...

    def taint(self, disk: Disk) -> None:
        """Put durably on record that the disk may be written from now on.

        prove() of it fails for ever after.
        """
        ...

    def discard_retired(self, host: str, *, deadline: Deadline) -> int:
        """Drop the disks that swaps retired, or keep them as evidence where the rules say so.

        In the background; the target must have released them. Returns how many were dropped.
        """
        ...

    def spares(self, host: str) -> int:
        """Return how many spares the host has."""
        ...

    def space(self, *, deadline: Deadline) -> Space:
        """Return how full the store is.

        Raises:
            DiskError, DeadlineExceededError: it can't be told.
        """
        ...

    def kept(self, *, deadline: Deadline) -> list[Evidence]:
        """Return the evidence of all hosts, the oldest first; a store of files keeps none.

        Raises:
            DiskError, DeadlineExceededError: it can't be told.
        """
        ...

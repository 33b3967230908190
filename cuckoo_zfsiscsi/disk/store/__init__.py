"""The store protocol: images, and the disks that are cloned from them."""

from __future__ import annotations

from dataclasses import dataclass
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
    """Identity of the content: SHA-256 (file store); "" while not sealed."""
    created: float
    """Seconds since the epoch."""

    @property
    def ref(self) -> str:
        """Return name@version."""
        return f"{self.name}@{self.version}"


@dataclass(frozen=True, slots=True)
class Disk:
    """The writable clone of an image that one host boots from."""

    host: str
    generation: int
    """Grows by one with each disk made for this host, and is never used again."""
    image: str
    """name@version of the image that it is a clone of."""
    path: Path
    """What the target exports: a file or a block device."""
    role: Literal["spare", "current"]


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
        """Resolve "name" (its newest sealed version) or "name@version" (sealed).

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

    def current(self, host: str) -> Disk | None:
        """Return the disk that the host boots from; None before its first reset."""
        ...

    def make_spare(self, host: str, image: str, *, deadline: Deadline, progress: Progress) -> Disk:
        """Return the host's spare of this image (name or name@version), made now if there is none.

        Raises:
            ImageError: no such sealed image, or it is not what was sealed.
            StoreFullError: no space; nothing is left behind.
        """
        ...

    def swap(self, host: str, image: str, *, deadline: Deadline) -> Disk:
        """Make the spare the current disk (made first if there is none). The old one is retired.

        Raises:
            ImageError, StoreFullError: as make_spare().
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
        """Drop the disks that swaps retired, in the background; return how many."""
        ...

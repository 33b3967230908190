"""The block devices of volumes: which is whose, who has it, what was written, what is on it."""

from __future__ import annotations

import errno
import fcntl
import functools
import hashlib
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk import kernel_file
from cuckoo_zfsiscsi.disk.block import ERESTARTSYS, open_block
from cuckoo_zfsiscsi.disk.bounded import bounded
from cuckoo_zfsiscsi.errors import DiskError

BLKZNAME = 0x8100127D
"""ioctl of a volume's device that tells the dataset's name (ZFS' sys/fs/zfs.h)."""
_NAME_SIZE = 256
_SYS = Path("/sys/block")
_DEV = Path("/dev")
_POLL = 0.005
"""Seconds. The node comes some milliseconds after the dataset, udev's link 200 ms after that."""
_RETRY = 0.05
_GONE = {errno.ENOENT, errno.ENXIO, errno.ENODEV}
_BUSY_KERNEL = {errno.ERESTART, ERESTARTSYS}

CLAIM_TIMEOUT = 5.0
"""Seconds in which udev ends looking at a device."""
BLOCK = 4096
SAMPLES = 16
"""Blocks in a sample."""


def dataset_of(device: Path) -> str | None:
    """Return the dataset whose device this is; None when it can't be told yet. Raises OSError."""
    try:
        handle = os.open(device, os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in _GONE | _BUSY_KERNEL:
            return None
        raise
    try:
        name = bytearray(_NAME_SIZE)
        fcntl.ioctl(handle, BLKZNAME, name)
    finally:
        os.close(handle)
    return name.partition(b"\0")[0].decode()


def find(dataset: str) -> Path | None:
    """Return the device of a volume, if it has one yet. Raises OSError."""
    link = _DEV / "zvol" / dataset
    candidates = [link.resolve()] if link.exists() else []  # udev is slow, but mostly right
    nodes = [path for path in _DEV.glob("zd*") if path.name[2:].isdigit()]
    newest_first = sorted(nodes, key=lambda path: int(path.name[2:]), reverse=True)
    for path in [*candidates, *newest_first]:
        if dataset_of(path) == dataset:
            return path
    return None


def wait_for(dataset: str, deadline: Deadline) -> Path:
    """Wait for a volume's device.

    Raises:
        DeadlineExceededError, CancelledError: there is none.
        OSError: devices can't be opened.
    """
    what = f"waiting for the device of {dataset}"
    return bounded(functools.partial(_wait_for, dataset, deadline), what, deadline)


def _wait_for(dataset: str, deadline: Deadline) -> Path:
    while (path := find(dataset)) is None:
        deadline.sleep(_POLL, f"waiting for the device of {dataset} (zfs get volmode {dataset})")
    return path


@contextmanager
def claimed(device: Path, who: str, deadline: Deadline, *, write: bool = False) -> Iterator[int]:
    """Have a device to oneself, as against others who claim it: LIO, mounts, LVM.

    Args:
        device: of a volume.
        who: completes "... is in use".
        deadline: until it must be ours; a look by udev passes.
        write: open it for writing.

    Raises:
        DiskError: someone else has it.
        OSError: it can't be opened.
    """
    flags = (os.O_RDWR if write else os.O_RDONLY) | os.O_EXCL
    while (handle := _try_claim(device, flags)) is None:
        if not deadline.remaining:
            raise DiskError(
                f"{who} is in use: {device} is held, {holders(device)}",
                fix="exported? targetcli ls; held by LVM or multipath? see zfsiscsi doctor",
            )
        deadline.cancel.wait(min(_RETRY, deadline.remaining))
        if deadline.cancel:
            deadline.check(f"waiting for {device}")
    try:
        yield handle
    finally:
        os.close(handle)


def _try_claim(device: Path, flags: int) -> int | None:
    try:
        return open_block(device, flags)
    except OSError as error:
        if error.errno == errno.EBUSY:
            return None
        raise


def holders(device: Path) -> str:
    """Return who holds a device, as far as the kernel tells."""
    found = sorted(path.name for path in (_SYS / device.name / "holders").glob("*"))
    return f"by {', '.join(found)}" if found else "by LIO, or something else in the kernel"


@dataclass(frozen=True, slots=True)
class Writes:
    """The kernel's counts of what was submitted to a device.

    Every write to a volume passes its block device, whoever sends it (LIO's iblock does, too), and
    is counted when it begins, long before ZFS' `written` shows it.
    """

    node: int
    """Inode of the device's node: a device made anew begins to count at 0, but has another."""
    number: int
    """Device number."""
    writes: int
    sectors: int
    discards: int
    discarded: int
    """Sectors."""
    pending: int
    """Writes that are not done."""

    @property
    def was_written(self) -> bool:
        """Whether anything was ever submitted that changes the device."""
        done = (self.writes, self.sectors, self.discards, self.discarded)
        return any(done) or self.pending > 0


def count_writes(device: Path) -> Writes:
    """Read them (Documentation/block/stat.rst of the kernel).

    Raises:
        OSError: the device is gone.
        DiskError: the kernel was told not to count.
    """
    place = _SYS / device.name
    if kernel_file.read(f"{place}/queue/iostats").strip() != b"1":
        raise DiskError(
            f"the kernel does not count the writes to {device}",
            fix=f"echo 1 > {place}/queue/iostats, and look for the udev rule that sets it to 0",
        )
    stat = [int(word) for word in kernel_file.read(f"{place}/stat").split()]
    pending = int(kernel_file.read(f"{place}/inflight").split()[1])
    node = device.stat()
    return Writes(
        node.st_ino, node.st_rdev, stat[4], stat[6], stat[11], stat[13], pending
    )  # fmt: skip


def sample(device: Path) -> str:
    """Return a digest of the disk's size and of blocks spread over it, the first and last included.

    The blocks are always the same ones, and read past the page cache: that is stale after a
    rollback.

    Raises:
        OSError: it can't be read.
    """
    handle = open_block(device, os.O_RDONLY | os.O_DIRECT)
    try:
        size = os.lseek(handle, 0, os.SEEK_END)
        digest = hashlib.sha256(str(size).encode())
        with mmap.mmap(-1, BLOCK) as block:  # aligned, as O_DIRECT wants it
            for offset in sample_offsets(size):
                length = os.preadv(handle, [block], offset)
                digest.update(block[:length])
    finally:
        os.close(handle)
    return digest.hexdigest()


def sample_offsets(size: int) -> list[int]:
    """Return where the blocks of a sample begin."""
    last = max(0, size - BLOCK) // BLOCK
    return sorted({last * n // (SAMPLES - 1) * BLOCK for n in range(SAMPLES)})

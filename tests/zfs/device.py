"""A volume's block device as a guest has it: past the page cache."""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.block import open_block
from cuckoo_zfsiscsi.disk.store.zfs_device import wait_for
from tests.waiting import HANG

MIB = 1 << 20
BLKDISCARD = 0x1277  # <linux/fs.h>


def write(path: Path, offset: int, data: bytes = b"infected" * 512) -> None:
    """Write whole sectors."""
    with _opened(path, os.O_WRONLY | os.O_DIRECT) as handle, mmap.mmap(-1, len(data)) as block:
        block.write(data)
        assert os.pwrite(handle, block, offset) == len(data)


def read(path: Path, offset: int = 0, length: int = 0) -> bytes:
    """Read whole sectors; all by default."""
    with _opened(path, os.O_RDONLY | os.O_DIRECT) as handle:
        length = length or os.lseek(handle, 0, os.SEEK_END) - offset
        with mmap.mmap(-1, length) as block:
            assert os.preadv(handle, [block], offset) == length
            return bytes(block)


def device_of(dataset: str) -> Path:
    """Return a volume's device. The link in /dev/zvol comes later than the device itself."""
    return wait_for(dataset, Deadline(HANG))


@contextmanager
def claimed(path: Path) -> Iterator[None]:
    """Have a device as LIO has the disk that it exports."""
    with _opened(path, os.O_RDONLY | os.O_EXCL):
        yield


def discard(path: Path, offset: int, length: int) -> None:
    with _opened(path, os.O_RDWR) as handle:
        fcntl.ioctl(handle, BLKDISCARD, struct.pack("QQ", offset, length))


@contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    handle = open_block(path, flags)
    try:
        yield handle
    finally:
        os.close(handle)

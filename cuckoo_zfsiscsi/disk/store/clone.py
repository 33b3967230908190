"""Copies of disk files: by reference where the file system can, else byte by byte; and proofs."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.store.guard import full
from cuckoo_zfsiscsi.errors import ImageError
from cuckoo_zfsiscsi.progress import Progress

_FICLONE = 0x40049409  # <linux/fs.h>
_NOT_POSSIBLE = {errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL, errno.EXDEV, errno.ENOSYS}

CHUNK = 1 << 20
EDGE = 1 << 20
"""Bytes at both ends of a disk that every sample includes: boot code and partition tables."""
SAMPLE = 64 << 10
SAMPLES = 16
"""How many more blocks of SAMPLE bytes, at random places."""


class Meter:
    """Tells progress a few times a second."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress, self._total = progress, total
        self._next = 0.0

    def __call__(self, done: int) -> None:
        """Tell how many bytes are done."""
        now = time.monotonic()
        if now >= self._next or done >= self._total:
            self._next = now + 0.25
            self._progress(done, self._total)


def check_space(path: Path, needed: int) -> None:
    """Raise StoreFullError when so many bytes can't fit any more."""
    stat = os.statvfs(path)
    if stat.f_bavail * stat.f_frsize < needed:
        raise full(path)


def clone(source: Path, copy: Path, *, digest: str, deadline: Deadline, progress: Progress) -> bool:
    """Fill a file with the content of a sealed one, durably. Return True for a reference.

    Args:
        source: must not change meanwhile.
        copy: made, or there and empty; removed again on any failure.
        digest: SHA-256 that the source has on record; a bytewise copy is checked against it.
        deadline: of the whole copy.
        progress: told of the bytes copied.

    Raises:
        ImageError: what was read is not what is on record.
        StoreFullError: no space, as far as can be told before.
        OSError: it failed on the way.
        DeadlineExceededError, CancelledError: not done.
    """
    with source.open("rb") as reader:
        writer = os.open(copy, os.O_RDWR | os.O_CREAT, 0o600)
        if os.fstat(writer).st_size:
            os.close(writer)
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(copy))
        try:
            referenced = _reference(reader.fileno(), writer)
            if not referenced:
                check_space(copy.parent, os.fstat(reader.fileno()).st_blocks * 512)
                if _copy(reader.fileno(), writer, deadline, progress) != digest:
                    raise ImageError(f"{source} is not what was sealed", fix="import it again")
            os.fsync(writer)
        except BaseException:
            copy.unlink()
            raise
        finally:
            os.close(writer)
    size = source.stat().st_size
    progress(size, size)
    return referenced


def _reference(reader: int, writer: int) -> bool:
    try:
        fcntl.ioctl(writer, _FICLONE, reader)
    except OSError as error:
        if error.errno in _NOT_POSSIBLE:
            return False
        raise
    return True


def _copy(reader: int, writer: int, deadline: Deadline, progress: Progress) -> str:
    """Copy the data, leave the holes out; return the SHA-256 of what was read."""
    digest = hashlib.sha256()
    size = os.fstat(reader).st_size
    os.ftruncate(writer, size)
    meter = Meter(progress, size)
    for offset, chunk, is_data in _chunks(reader, size):
        deadline.check("the copy of an image")
        digest.update(chunk)
        if is_data:
            _write(writer, chunk, offset)
        meter(offset + len(chunk))
    return digest.hexdigest()


def _write(handle: int, chunk: bytes, offset: int) -> None:
    view = memoryview(chunk)
    while view:
        written = os.pwrite(handle, view, offset)
        view, offset = view[written:], offset + written


def hash_file(path: Path, *, deadline: Deadline, progress: Progress) -> str:
    """Return the SHA-256 of a file's content.

    Raises:
        OSError: it can't be read.
        DeadlineExceededError, CancelledError: not done.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        meter = Meter(progress, size)
        for offset, chunk, _ in _chunks(file.fileno(), size):
            deadline.check(f"the check of {path}")
            digest.update(chunk)
            meter(offset + len(chunk))
    return digest.hexdigest()


def _chunks(handle: int, size: int) -> Iterator[tuple[int, bytes, bool]]:
    """Yield the whole content as (offset, bytes, is data); holes are zeros that nobody reads."""
    zeros = bytes(CHUNK)
    offset = 0
    while offset < size:
        begin = _next_data(handle, offset, size)
        while offset < begin:
            length = min(CHUNK, begin - offset)
            yield offset, zeros[:length], False
            offset += length
        end = os.lseek(handle, offset, os.SEEK_HOLE) if offset < size else size
        while offset < end:
            chunk = os.pread(handle, min(CHUNK, end - offset), offset)
            if not chunk:
                raise OSError(errno.EIO, "the file became shorter")
            yield offset, chunk, True
            offset += len(chunk)


def _next_data(handle: int, offset: int, size: int) -> int:
    try:
        return os.lseek(handle, offset, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:  # nothing but a hole up to the end
            return size
        raise


def differs(one: Path, other: Path) -> str:
    """Compare two disks at both ends and at random places; return where they differ, or "".

    Raises:
        OSError: one can't be read.
    """
    with one.open("rb") as left, other.open("rb") as right:
        size = os.fstat(left.fileno()).st_size
        if size != os.fstat(right.fileno()).st_size:
            return "they differ in size"
        blocks = [(0, EDGE), (max(0, size - EDGE), EDGE)]
        blocks += [(secrets.randbelow(max(1, size - SAMPLE)), SAMPLE) for _ in range(SAMPLES)]
        for offset, length in sorted(blocks):
            if os.pread(left.fileno(), length, offset) != os.pread(right.fileno(), length, offset):
                return f"they differ between byte {offset} and {offset + length}"
    return ""

"""Small JSON records that survive a crash, and locks between processes."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import DiskError

PART = ".part"
"""Ending of a file that is not whole yet. Nobody reads one; open() drops what a crash left."""

POLL = 0.02
"""Seconds between two tries to get a lock."""


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Replace a record: after a crash it is the old one or the new one, whole.

    On return it is on the medium (fsync of the file, rename, fsync of the directory).

    Raises:
        OSError: no space, for one; the old record is in place.
    """
    part = path.with_name(path.name + PART)
    try:
        with part.open("w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), 0o600)
            json.dump(record, file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def read_record(path: Path) -> dict[str, Any] | None:
    """Return the record; None when there is none.

    Raises:
        DiskError: it is not what write_record() writes: the file system is damaged.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (ValueError, OSError) as error:
        raise _damaged(path) from error
    if not isinstance(record, dict):
        raise _damaged(path)
    return record


def _damaged(path: Path) -> DiskError:
    return DiskError(
        f"the record {path} is damaged",
        fix=f"check the file system, then move {path.parent} away: its disks are made anew",
    )


def sync_directory(path: Path) -> None:
    """Make what was created, renamed or removed in a directory durable."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_directory(path: Path) -> None:
    """Make a directory for root alone, durably, if it is not there."""
    if not path.is_dir():
        path.mkdir(mode=0o700, exist_ok=True)
        sync_directory(path.parent)


@contextlib.contextmanager
def locked(path: Path, deadline: Deadline, what: str) -> Iterator[None]:
    """Hold a lock (flock) between processes and threads.

    Args:
        path: made if it is not there.
        deadline: until it must be ours.
        what: completes "... took longer than N s".

    Raises:
        DeadlineExceededError, CancelledError: someone else holds it.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        while not try_lock(handle):
            deadline.sleep(POLL, what)
        yield
    finally:
        os.close(handle)


def try_lock(handle: int) -> bool:
    """Take the lock of an open file until it is closed; False when someone else has it."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True

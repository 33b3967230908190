"""A guest that writes without end fills its own disk. With ZFS: tests/zfs/store/test_zfs_rooms.py.

Disks that are files have no limit but their size, so the bound is kept when hosts are armed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.store import Disk
from cuckoo_zfsiscsi.disk.store.file import LOCK, FileStore
from cuckoo_zfsiscsi.disk.store.server import Server
from cuckoo_zfsiscsi.errors import DiskError, StoreFullError
from tests.disk.conftest import file_system
from tests.disk.content import make_raw, seal, swap
from tests.waiting import HANG

MIB = 1 << 20
GIB = 1 << 30

Record = Callable[[str, object], None]


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """Return a file system of 24 MiB."""
    with file_system(tmp_path / "small", 24) as path:
        yield path


@pytest.fixture
def store(small: Path, tmp_path: Path) -> Iterator[FileStore]:
    """Return a store in it, with an image of 10 MiB of which 1 MiB is data."""
    store = FileStore(small, run=GIB, immutable=False)
    store.open()
    seal(store, "win10", make_raw(tmp_path / "raw", 10 * MIB))
    yield store
    store.close()


def arm(store: FileStore, host: str) -> Disk:
    disk = swap(store, host)
    store.taint(disk)
    return disk


def fill(disk: Disk) -> int:
    """Write all of a disk, as its guest does; return how many bytes the server took."""
    taken = 0
    with disk.path.open("r+b", buffering=0) as file, contextlib.suppress(OSError):  # ENOSPC
        while taken < disk.path.stat().st_size:
            taken += file.write(os.urandom(MIB))
    return taken


def test_a_guest_that_fills_its_disk_leaves_room_for_those_beside_it(
    store: FileStore, record_property: Record
) -> None:
    """A guest writes random data to every block of its disk while a sibling runs.

    Before: the file system was full, and the sibling's writes failed (ENOSPC).
    Now: two of three hosts are armed, both can write all of their disks; the third is refused
    before it boots, with one line that says why.
    """
    mine, sibling = arm(store, "pc1"), arm(store, "pc2")
    third = swap(store, "pc3")
    with pytest.raises(StoreFullError, match="pc3 is not armed") as caught:
        store.taint(third)
    assert caught.value.fix
    assert fill(mine) == 10 * MIB
    written = fill(sibling)
    record_property("MiB a sibling could write of 10", written // MIB)
    assert written == 10 * MIB


def test_what_is_over_makes_room_again(store: FileStore) -> None:
    """A guest fills its disk; its run ends.

    Before: nobody looked.
    Now: the next host is refused until the disk is thrown away, and armed then.
    """
    fill(arm(store, "pc1"))
    arm(store, "pc2")
    third = swap(store, "pc3")
    with pytest.raises(StoreFullError):
        store.taint(third)
    swap(store, "pc1")
    store.discard_retired("pc1", deadline=Deadline(HANG))
    store.taint(third)


def test_a_clone_of_the_server_does_not_serve_the_same_disks(store: FileStore) -> None:
    """A second server, copied from the first with its disk, finds the same folder.

    Before: it took it, as its machine-id is the same (with files nobody looked at all).
    Now: it refuses, and says what to type when the first one is gone.
    """
    here = Server("5f3a", "store1", "uuid-1", frozenset({"52:54:00:00:00:01"}))
    store.close()
    first = FileStore(store.path, server=here)
    first.open()
    record = (store.path / LOCK).read_bytes()
    first.close()
    (store.path / LOCK).write_bytes(record)  # as a crash, or the copy of a running one, leaves it
    clone = FileStore(store.path, server=replace(here, product="uuid-2", cards=frozenset({"x"})))
    with pytest.raises(DiskError, match="a clone of this server") as caught:
        clone.open()
    assert f"rm {store.path / LOCK}" in caught.value.fix
    assert shutil.disk_usage(store.path).free

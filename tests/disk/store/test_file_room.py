from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.store import Disk
from cuckoo_zfsiscsi.disk.store.file import LOCK, FileStore
from cuckoo_zfsiscsi.disk.store.file_room import GIB, Armed, missing
from cuckoo_zfsiscsi.disk.store.server import Server
from cuckoo_zfsiscsi.errors import DiskError, StoreFullError
from tests.disk.content import make_raw, seal, spare, swap
from tests.waiting import HANG

MIB = 1 << 20


def test_what_armed_hosts_may_yet_write_must_fit() -> None:
    disks = [Armed(64 * GIB, 0), Armed(64 * GIB, 20 * GIB)]
    assert missing(108 * GIB, disks, run=100 * GIB) == 0
    assert missing(100 * GIB, disks, run=100 * GIB) == 8 * GIB
    assert missing(20 * GIB, disks, run=10 * GIB) == 0
    assert missing(2 * GIB, disks, run=0) == 0
    assert missing(GIB, disks, run=0) == GIB


def test_a_full_disk_takes_nothing_more() -> None:
    assert missing(0, [Armed(5 * MIB, 6 * MIB), Armed(MIB, MIB)], run=GIB) == 0


def arm(store: FileStore, host: str) -> Disk:
    disk = swap(store, host)
    store.taint(disk)
    return disk


def test_hosts_are_armed_while_there_is_room_for_all(tiny: Path, tmp_path: Path) -> None:
    store = FileStore(tiny, run=GIB, immutable=False)
    store.open()
    seal(store, "win10", make_raw(tmp_path / "raw", 5 * MIB // 2))
    arm(store, "pc1")
    disk = swap(store, "pc2")  # of 8 MiB 4.8 are left; each disk may take 1.4 more
    assert shutil.disk_usage(tiny).free < 5 * MIB
    store.taint(disk)
    third = swap(store, "pc3")
    with pytest.raises(StoreFullError, match=r"pc3 is not armed: .* 3 armed hosts") as caught:
        store.taint(third)
    assert "run_gib" in caught.value.fix
    swap(store, "pc1")  # its run is over
    store.discard_retired("pc1", deadline=Deadline(HANG))
    store.taint(third)
    store.close()


def test_one_host_alone_may_fill_what_there_is(tiny: Path, tmp_path: Path) -> None:
    store = FileStore(tiny, run=GIB, immutable=False)
    store.open()
    seal(store, "win10", make_raw(tmp_path / "raw", 20 * MIB))
    arm(store, "pc1")
    with pytest.raises(StoreFullError):
        arm(store, "pc2")
    store.close()


def test_hosts_that_are_no_more_do_not_count(tiny: Path, tmp_path: Path) -> None:
    store = FileStore(tiny, run=GIB, immutable=False)
    store.open()
    seal(store, "win10", make_raw(tmp_path / "raw", 20 * MIB))
    arm(store, "pc1")
    store.close()
    without = FileStore(tiny, run=GIB, immutable=False, hosts=["pc2"])
    without.open()
    arm(without, "pc2")
    without.close()


def test_disks_that_share_blocks_are_reckoned_in_full(btrfs: Path, tmp_path: Path) -> None:
    store = FileStore(btrfs / "shared", run=GIB, immutable=False)
    store.open()
    seal(store, "win10", make_raw(tmp_path / "raw", 150 * MIB))
    arm(store, "pc1")  # takes nothing yet
    assert spare(store, "pc2")
    with pytest.raises(StoreFullError, match="2 armed hosts"):
        arm(store, "pc2")
    store.close()
    shutil.rmtree(btrfs / "shared")


# Another server that sees the same folder.

HERE = Server("5f3a", "store1", "uuid-1", frozenset({"52:54:00:00:00:01"}))
CLONE = replace(HERE, product="uuid-2", cards=frozenset({"52:54:00:00:00:02"}))


def crash(store: FileStore) -> None:
    """Leave it as a crash does."""
    record = (store.path / LOCK).read_bytes()
    store.close()
    (store.path / LOCK).write_bytes(record)


def test_a_clone_of_the_server_does_not_take_the_store(root: Path) -> None:
    mine = FileStore(root, server=HERE)
    mine.open()
    crash(mine)
    with pytest.raises(DiskError, match=r"a clone of this server.*store1") as caught:
        FileStore(root, server=CLONE).open()
    assert caught.value.fix.endswith(f"rm {root / LOCK}")
    again = FileStore(root, server=replace(HERE, name="renamed"))
    again.open()
    again.close()


def test_what_was_given_up_anybody_may_have(root: Path) -> None:
    for server in (HERE, CLONE, HERE):
        store = FileStore(root, server=server)
        store.open()
        store.close()

"""What ZFS does that one would not expect, each seen once and guarded against here."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.store.zfs import ZfsStore
from cuckoo_zfsiscsi.disk.store.zfs_call import Zfs
from cuckoo_zfsiscsi.disk.store.zfs_device import count_writes, sample
from cuckoo_zfsiscsi.disk.store.zfs_error import ZfsError
from cuckoo_zfsiscsi.errors import DiskError, ImageError, UnprovenDiskError
from tests.disk.content import prove, seal, spare, swap
from tests.waiting import HANG
from tests.zfs.device import MIB, claimed, read, write
from tests.zfs.store.conftest import SIZE, Make
from tests.zfs.zfs import get, holds, names, zfs


def rollback(store: ZfsStore, image: str = "win10") -> int:
    return store.rollback("pc1", image, deadline=Deadline(HANG)).generation


def dirty(store: ZfsStore) -> Path:
    """Have a current disk that a guest has written to; return its device."""
    disk = swap(store)
    prove(store, disk)
    store.taint(disk)
    write(disk.path, 0, os.urandom(MIB))
    return disk.path


# In place.


def test_rollback_restores_the_same_disk_as_the_next_generation(
    store: ZfsStore, win10: bytes, make: Make
) -> None:
    path = dirty(store)
    assert rollback(store) == 2
    disk = store.current("pc1")
    assert disk is not None
    assert (disk.generation, disk.path) == (2, path)
    prove(store, disk)
    prove(store, disk)
    assert read(path) == win10
    store.taint(disk)
    write(path, SIZE - 4096)
    with pytest.raises(UnprovenDiskError):
        prove(store, disk)
    assert rollback(store) == 3
    assert read(path) == win10
    store.close()
    again = make()
    again.open()
    assert [disk.generation for disk in again.disks("pc1")] == [3]
    assert rollback(again) == 4
    assert spare(again).generation == 5


@pytest.mark.usefixtures("win10")
def test_rollback_is_a_swap_where_it_can_not_be_in_place(
    store: ZfsStore, source: Path, make: Make
) -> None:
    assert rollback(store) == 1  # there was none
    seal(store, "win10", source)
    assert rollback(store) == 2  # another version
    store.close()
    keeper = make(evidence=1)
    keeper.open()
    assert rollback(keeper) == 3  # its content is evidence
    assert names(keeper.layout.disks, "volume") == {"pc1/g1", "pc1/g2", "pc1/g3"}
    with pytest.raises(ImageError, match="no image win7"):
        rollback(keeper, "win7")


def test_writes_during_a_rollback_are_seen(
    store: ZfsStore, win10: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A rollback under someone who writes succeeds without a word.
    path = dirty(store)
    real = Zfs.rollback

    def slow(*arguments: object, **more: object) -> None:
        real(*arguments, **more)  # type: ignore[arg-type]
        write(path, 0)

    monkeypatch.setattr(Zfs, "rollback", slow)
    with pytest.raises(DiskError, match="was written while it was restored"):
        rollback(store)
    monkeypatch.undo()
    assert store.current("pc1") is None
    disk = swap(store)
    assert disk.path != path
    assert read(disk.path) == win10


def test_the_page_cache_is_stale_after_a_rollback(store: ZfsStore, win10: bytes) -> None:
    path = dirty(store)
    with path.open("rb") as keeps_the_cache:  # as a backstore with a file does
        infected = keeps_the_cache.read(4096)
        clean = store._host("pc1").find(1).sample
        rollback(store)
        keeps_the_cache.seek(0)
        assert keeps_the_cache.read(4096) == infected  # so nothing is proven by reading like this
        assert read(path, 0, 4096) == win10[:4096] != infected
        assert sample(path) == clean


@pytest.mark.usefixtures("win10")
def test_a_newer_snapshot_is_not_destroyed_by_a_rollback(store: ZfsStore) -> None:
    dirty(store)
    dataset = store.layout.disk("pc1", 1)
    zfs("snapshot", f"{dataset}@evidence-by-hand")
    with pytest.raises(DiskError, match="has a newer snapshot than @base") as caught:
        rollback(store)
    assert dataset in caught.value.fix
    assert "pc1/g1@evidence-by-hand" in names(store.layout.disks)
    assert store.current("pc1") is None
    disk = swap(store)
    prove(store, disk)


# Destroying.


@pytest.mark.usefixtures("win10")
def test_an_exported_disk_keeps_its_snapshots_when_it_is_not_destroyed(store: ZfsStore) -> None:
    # zfs destroy -r destroys the snapshots first, and says "busy" then
    with claimed(swap(store).path):
        swap(store)
        with pytest.raises(DiskError, match=r"pc1/g1 is in use: .* is held"):
            store.discard_retired("pc1", deadline=Deadline(8))
        snapshot = f"{store.layout.disk('pc1', 1)}@base"
        assert holds(snapshot) == ["zfsiscsi"]
    assert store.discard_retired("pc1", deadline=Deadline(HANG)) == 1


@pytest.mark.usefixtures("win10")
def test_one_disk_that_can_not_be_dropped_does_not_keep_the_others(store: ZfsStore) -> None:
    disk = swap(store)
    for _ in range(3):
        swap(store)
    with claimed(disk.path), pytest.raises(DiskError, match="pc1/g1 is in use"):
        store.discard_retired("pc1", deadline=Deadline(30))
    assert names(store.layout.disks, "volume") == {"pc1/g1", "pc1/g4"}


@pytest.mark.usefixtures("win10")
def test_a_look_at_the_device_only_delays_its_end(store: ZfsStore) -> None:
    # As udev does when a volume appears or changes
    handle = os.open(swap(store).path, os.O_RDONLY)
    swap(store)
    threading.Timer(2, os.close, [handle]).start()
    assert store.discard_retired("pc1", deadline=Deadline(HANG)) == 1


@pytest.mark.usefixtures("win10")
def test_a_device_that_stays_open_is_an_error_with_a_name(store: ZfsStore) -> None:
    with swap(store).path.open("rb"):
        swap(store)
        with pytest.raises(DiskError, match="is busy: a process has its device open") as caught:
            store.discard_retired("pc1", deadline=Deadline(40))
    assert "fuser" in caught.value.fix
    assert store.discard_retired("pc1", deadline=Deadline(HANG)) == 1


@pytest.mark.usefixtures("win10")
@pytest.mark.parametrize("what", ["hold", "clone"])
def test_what_someone_else_holds_is_not_dropped(store: ZfsStore, what: str) -> None:
    swap(store)
    snapshot = f"{store.layout.disk('pc1', 1)}@base"
    if what == "hold":
        zfs("hold", "lawyer", snapshot)
    else:
        zfs("clone", snapshot, f"{store.layout.place}/mine")
    swap(store)
    with pytest.raises(DiskError, match=r"held by someone else: lawyer|has clones: .*/mine"):
        store.discard_retired("pc1", deadline=Deadline(HANG))
    assert "zfsiscsi" in holds(snapshot)
    prove(store, swap(store))
    if what == "clone":
        zfs("destroy", f"{store.layout.place}/mine")


@pytest.mark.usefixtures("win10")
def test_images_and_bases_are_held(store: ZfsStore) -> None:
    spare(store)
    for dataset in (store.layout.image("win10", 1), store.layout.disk("pc1", 1)):
        with pytest.raises(AssertionError, match=r"busy|dependent"):
            zfs("destroy", "-r", dataset)
    prove(store, swap(store))


# Devices.


@pytest.mark.usefixtures("win10")
def test_the_server_does_not_look_at_the_partitions_of_guests(store: ZfsStore) -> None:
    disk = swap(store)
    table = bytearray(512)
    table[446:462] = bytes.fromhex("800101000c0f0f0f 0008000000100000".replace(" ", ""))
    table[510:] = b"\x55\xaa"
    write(disk.path, 0, bytes(table))
    handle = os.open(disk.path, os.O_RDWR)
    os.close(handle)  # the kernel looks at the table when the last writer closes
    assert get(store.layout.disk("pc1", 1), "volmode") == "dev"
    found = [path.name for path in Path("/dev").glob(f"{disk.path.name}p*")]
    found += [path.name for path in (Path("/sys/block") / disk.path.name).glob("zd*p*")]
    assert found == []


@pytest.mark.usefixtures("win10")
def test_what_a_fresh_clone_counts_as_written_is_before_its_base(store: ZfsStore) -> None:
    spare(store)
    store.zfs.sync(deadline=Deadline(HANG))
    assert get(store.layout.disk("pc1", 1), "written@base") == "0"


@pytest.mark.usefixtures("win10")
def test_the_kernel_counts_a_write_before_zfs_does(store: ZfsStore) -> None:
    disk = swap(store)
    dataset = store.layout.disk("pc1", 1)
    before = count_writes(disk.path)
    write(disk.path, 0, os.urandom(4096))
    assert count_writes(disk.path) != before
    store.zfs.sync(deadline=Deadline(HANG))
    assert int(get(dataset, "written@base")) > 0


@pytest.mark.usefixtures("win10")
def test_a_program_is_given_its_parameters(store: ZfsStore) -> None:
    # A dictionary in place of a list: it runs, and is given nothing
    program = 'local argv = ...; return argv["argv"][2]'
    assert store.zfs.read(program, ["a", "b"], deadline=Deadline(HANG)) == "b"


def test_errors_of_zfs_are_ours(store: ZfsStore) -> None:
    with pytest.raises(ZfsError, match="No such file") as caught:
        store.zfs.clone(f"{store.layout.disks}/x", f"{store.layout.disks}@no", {},
                        deadline=Deadline(HANG))  # fmt: skip
    assert caught.value.number == 2
    with pytest.raises(DiskError, match="zfs get nothing"):
        store.zfs.command("zfs", "get", "nothing", "nowhere", deadline=Deadline(HANG))
    with pytest.raises(DiskError, match="nozfs is not installed"):
        store.zfs.command("nozfs", deadline=Deadline(HANG))
    with pytest.raises(DiskError, match="is the pool imported"):
        Zfs("nopool").read("return 0", ["x"], deadline=Deadline(HANG))

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.deadline import Cancel, Deadline
from cuckoo_zfsiscsi.disk.store import Disk
from cuckoo_zfsiscsi.disk.store.clone import clone
from cuckoo_zfsiscsi.disk.store.facts import unprotect
from cuckoo_zfsiscsi.disk.store.file import FileStore
from cuckoo_zfsiscsi.errors import (
    CancelledError,
    DeadlineExceededError,
    DiskError,
    ImageError,
    UnprovenDiskError,
)
from cuckoo_zfsiscsi.progress import silent
from tests.disk.content import MIB, files, make_raw, poke, prove, seal, spare, swap
from tests.waiting import HANG


def golden(store: FileStore, ref: str = "win10/1") -> Path:
    """Return an image's file, writable for who forces it."""
    path = store.path / "images" / f"{ref}.raw"
    unprotect(path)
    return path


def test_a_disk_is_an_untouched_clone_of_its_image(store: FileStore, win10: Path) -> None:
    made = spare(store)
    assert made == Disk("pc1", 1, "win10@1", store.path / "disks/pc1/1.raw", "spare")
    assert made.path.read_bytes() == win10.read_bytes()
    assert store.current("pc1") is None
    prove(store, made)
    disk = swap(store)
    assert disk == Disk("pc1", 1, "win10@1", made.path, "current")
    assert store.current("pc1") == disk
    prove(store, disk)


@pytest.mark.usefixtures("win10")
def test_one_spare_is_enough(store: FileStore) -> None:
    assert spare(store) == spare(store)
    assert spare(store, "pc2").generation == 1
    assert files(store.path / "disks") == {
        f"{host}/{name}" for host in ("pc1", "pc2") for name in ("1.raw", "1.json", "host.json")
    }


@pytest.mark.usefixtures("win10")
def test_what_is_there(store: FileStore) -> None:
    assert store.spares("pc1") == 0
    spare(store)
    assert (store.spares("pc1"), store.spares("pc2")) == (1, 0)
    swap(store)
    assert store.spares("pc1") == 0
    found = store.space(deadline=Deadline(HANG))
    assert 0 < found.free < found.total
    assert found.percent == pytest.approx(100 * found.free / found.total)
    assert store.kept(deadline=Deadline(HANG)) == []


@pytest.mark.usefixtures("win10")
def test_swap_makes_a_spare_when_there_is_none_and_retires_the_old(store: FileStore) -> None:
    assert [swap(store).generation for _ in range(3)] == [1, 2, 3]
    with pytest.raises(UnprovenDiskError, match="not this host's current or spare"):
        prove(store, Disk("pc1", 2, "win10@1", store.path / "disks/pc1/2.raw", "current"))
    assert store.discard_retired("pc1", deadline=Deadline(HANG)) == 2
    assert store.discard_retired("pc1", deadline=Deadline(HANG)) == 0
    assert files(store.path / "disks/pc1") == {"3.raw", "3.json", "host.json"}


@pytest.mark.usefixtures("win10")
def test_swap_to_a_spare_copies_nothing(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    made = spare(store)
    monkeypatch.setattr("cuckoo_zfsiscsi.disk.store.file.clone", lambda *_, **__: 1 / 0)
    assert swap(store).path == made.path


@pytest.mark.usefixtures("win10")
def test_numbers_are_never_used_again(store: FileStore) -> None:
    swap(store)
    swap(store)
    store.discard_retired("pc1", deadline=Deadline(HANG))
    store.close()
    again = FileStore(store.path)
    again.open()
    assert swap(again).generation == 3
    again.close()


def test_another_image_makes_another_spare(store: FileStore, win10: Path, tmp_path: Path) -> None:
    spare(store)
    newer = make_raw(tmp_path / "newer")
    seal(store, "win10", newer)
    assert spare(store).image == "win10@2"
    assert swap(store).path.read_bytes() == newer.read_bytes()
    assert swap(store, image="win10@1").path.read_bytes() == win10.read_bytes()


# What is written is never proven clean.


@pytest.mark.usefixtures("win10")
@pytest.mark.parametrize("offset", [0, 3 * MIB, 5 * MIB - 8])
@pytest.mark.parametrize("role", ["spare", "current"])
def test_a_write_is_seen(store: FileStore, role: str, offset: int) -> None:
    disk = spare(store) if role == "spare" else swap(store)
    poke(disk.path, offset)
    with pytest.raises(UnprovenDiskError, match="was changed since it was made"):
        prove(store, disk)


@pytest.mark.usefixtures("win10")
def test_a_write_is_seen_when_its_time_is_set_back(store: FileStore) -> None:
    disk = swap(store)
    stat = disk.path.stat()
    poke(disk.path, 3 * MIB)
    os.utime(disk.path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with pytest.raises(UnprovenDiskError):
        prove(store, disk)


@pytest.mark.usefixtures("win10")
def test_a_doubtful_spare_is_not_used(store: FileStore) -> None:
    poke(spare(store).path, 0)
    disk = swap(store)
    assert disk.generation == 2
    prove(store, disk)
    spare(store).path.unlink()
    assert swap(store).generation == 4


@pytest.mark.usefixtures("win10")
def test_tainted_is_for_ever(store: FileStore) -> None:
    disk = swap(store)
    store.taint(disk)
    store.taint(disk)
    with pytest.raises(UnprovenDiskError, match="armed before") as caught:
        prove(store, disk)
    assert caught.value.fix == "zfsiscsi reset pc1"
    store.close()
    again = FileStore(store.path)
    again.open()
    with pytest.raises(UnprovenDiskError):
        prove(again, disk)
    assert swap(again).generation == 2
    again.close()


def test_a_spare_differing_from_its_image_is_seen_by_the_sample(
    store: FileStore, win10: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As if the file system lied about its time stamps.
    disk = swap(store)
    assert disk.path.read_bytes() == win10.read_bytes()
    poke(disk.path, 100)
    monkeypatch.setattr("cuckoo_zfsiscsi.disk.store.file_disks.Base.flaw", lambda *_: "")
    with pytest.raises(UnprovenDiskError, match="disk and image differ: they differ between"):
        prove(store, disk)


@pytest.mark.usefixtures("win10")
def test_a_disk_without_its_file_or_record_is_unproven(store: FileStore) -> None:
    disk = swap(store)
    disk.path.unlink()
    with pytest.raises(UnprovenDiskError, match=r"1\.raw is gone"):
        prove(store, disk)
    disk.path.with_suffix(".json").unlink()
    with pytest.raises(UnprovenDiskError):
        prove(store, disk)
    with pytest.raises(DiskError, match="no generation 1"):
        store.taint(disk)
    with pytest.raises(DiskError, match="has no record"):
        store.current("pc1")
    store.close()
    store.open()
    assert store.current("pc1") is None


# An image is what was sealed, or is not used.


def test_a_changed_image_is_never_used(store: FileStore, win10: Path) -> None:
    disk = swap(store)
    path = golden(store)
    stat = path.stat()
    poke(path, 3 * MIB)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    for _ in range(2):
        with pytest.raises(UnprovenDiskError, match="is not what was sealed"):
            prove(store, disk)
        with pytest.raises(ImageError, match="is not what was sealed"):
            spare(store)
    path.write_bytes(win10.read_bytes())
    prove(store, disk)


@pytest.mark.usefixtures("win10")
def test_an_image_that_was_only_touched_is_hashed_and_known_again(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = swap(store)
    os.utime(golden(store))
    prove(store, disk)
    monkeypatch.setattr("cuckoo_zfsiscsi.disk.store.file_images.hash_file", None)
    prove(store, disk)
    spare(store)


@pytest.mark.usefixtures("win10")
def test_an_image_that_is_gone(store: FileStore) -> None:
    disk = swap(store)
    golden(store).unlink()
    with pytest.raises(UnprovenDiskError, match="the file of image win10@1 is gone"):
        prove(store, disk)
    golden(store).with_suffix(".json").unlink()
    with pytest.raises(UnprovenDiskError, match="no image win10@1"):
        prove(store, disk)


@pytest.mark.usefixtures("win10")
def test_an_image_that_was_replaced(store: FileStore) -> None:
    disk = swap(store)
    record = store.path / "images/win10/1.json"
    old = record.read_text()
    record.write_text(old.replace(store.find_image("win10").digest, "0" * 64))
    with pytest.raises(UnprovenDiskError, match="not a clone of win10@1 as it is now"):
        prove(store, disk)
    record.write_text(old)
    other = Disk(disk.host, disk.generation, "win10@2", disk.path, "current")
    with pytest.raises(UnprovenDiskError, match="not a clone of win10@2"):
        prove(store, other)


def test_an_image_that_changes_while_it_is_cloned(btrfs: Path, tmp_path: Path) -> None:
    store = FileStore(btrfs / tmp_path.name)
    store.open()
    seal(store, "win10", make_raw(tmp_path / "source"))
    path = golden(store)

    def progress(_done: int, _total: int) -> None:
        poke(path, 0)

    os.utime(path)
    with pytest.raises(ImageError, match="changed while it was cloned"):
        store.make_spare("pc1", "win10", deadline=Deadline(HANG), progress=progress)
    assert files(store.path / "disks") == {"pc1/host.json"}
    store.close()


def test_clones_by_reference_are_proven_too(btrfs: Path, tmp_path: Path) -> None:
    store = FileStore(btrfs / tmp_path.name)
    store.open()
    source = make_raw(tmp_path / "source", 24 * MIB)
    seal(store, "win10", source)
    with pytest.raises(PermissionError):
        poke(store.path / "images/win10/1.raw", 0)
    disk = swap(store)
    prove(store, disk)
    assert disk.path.read_bytes() == source.read_bytes()
    poke(disk.path, 5)
    with pytest.raises(UnprovenDiskError):
        prove(store, disk)
    prove(store, swap(store))
    golden(store)
    store.close()


# One store, one service.


def test_two_services_on_one_store(store: FileStore) -> None:
    other = FileStore(store.path)
    with pytest.raises(DiskError, match=f"in use by another service, process {os.getpid()} "):
        other.open()
    store.close()
    store.close()
    other.open()
    other.close()


def test_the_pid_of_the_other_service_is_named(root: Path) -> None:
    code = (
        "import sys, pathlib\n"
        "from cuckoo_zfsiscsi.disk.store.file import FileStore\n"
        "FileStore(pathlib.Path(sys.argv[1])).open(); print('open', flush=True); sys.stdin.read()"
    )
    argv = [sys.executable, "-c", code, str(root)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"open\n"
        with pytest.raises(DiskError, match=f"process {other.pid}") as caught:
            FileStore(root).open()
        assert "ps -fp" in caught.value.fix
        other.kill()
    store = FileStore(root)
    store.open()
    store.close()


def test_disks_need_an_open_store(root: Path) -> None:
    with pytest.raises(DiskError, match="is not open"):
        FileStore(root).current("pc1")


@pytest.mark.parametrize("host", ["", "..", "a/b", "../pc1", ".pc1", "pc 1", "pc1\n", "x" * 65])
def test_host_names_can_not_leave_the_store(store: FileStore, host: str) -> None:
    with pytest.raises(DiskError, match="can't be a host's name"):
        store.current(host)
    assert files(store.path) == {"lock", "images/lock"}


def test_damage_is_said(store: FileStore) -> None:
    store.current("pc1")
    (store.path / "disks/pc1/host.json").write_text("}")
    with pytest.raises(DiskError, match=r"host\.json is damaged"):
        store.current("pc1")


def test_a_broken_file_system_is_a_disk_error(store: FileStore) -> None:
    (store.path / "disks").rmdir()
    (store.path / "disks").touch()
    with pytest.raises(DiskError, match=r"the store fails: .*disks"):
        store.current("pc1")


# Threads of one service.


@pytest.mark.usefixtures("win10")
def test_hosts_do_not_wait_for_each_other_but_one_host_waits_for_itself(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    spare(store, "pc2")
    begun, go_on = threading.Event(), threading.Event()
    real = clone

    def slow(*args: object, **kwargs: object) -> bool:
        begun.set()
        go_on.wait(HANG)
        return real(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr("cuckoo_zfsiscsi.disk.store.file.clone", slow)
    thread = threading.Thread(target=spare, args=(store,))
    thread.start()
    begun.wait(HANG)
    assert swap(store, "pc2").generation == 1
    with pytest.raises(DeadlineExceededError, match="another operation on the disks of pc1"):
        store.swap("pc1", "win10", deadline=Deadline(0.2))
    cancel = Cancel()
    cancel.set("stop")
    with pytest.raises(CancelledError):
        store.discard_retired("pc1", deadline=Deadline(HANG, cancel))
    with pytest.raises(ImageError, match="in use by pc1"):
        store.delete_image("win10@1")
    go_on.set()
    disk = swap(store)
    thread.join()
    assert disk.generation == 1
    prove(store, disk)


@pytest.mark.usefixtures("win10")
def test_a_failed_clone_leaves_nothing_and_its_number_is_gone(store: FileStore) -> None:
    cancel = Cancel()

    def progress(_done: int, _total: int) -> None:
        cancel.set("enough")

    with pytest.raises(CancelledError):
        store.make_spare("pc1", "win10", deadline=Deadline(HANG, cancel), progress=progress)
    assert files(store.path / "disks") == {"pc1/host.json"}
    assert (
        store.make_spare("pc1", "win10", deadline=Deadline(HANG), progress=silent).generation == 2
    )

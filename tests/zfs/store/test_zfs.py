from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.deadline import Cancel, Deadline
from cuckoo_zfsiscsi.disk.store import Disk
from cuckoo_zfsiscsi.disk.store.server import Server
from cuckoo_zfsiscsi.disk.store.zfs import ZfsStore
from cuckoo_zfsiscsi.disk.store.zfs_call import Zfs
from cuckoo_zfsiscsi.errors import (
    CancelledError,
    DeadlineExceededError,
    DiskError,
    ImageError,
    UnprovenDiskError,
)
from cuckoo_zfsiscsi.progress import silent
from tests.disk.content import make_raw, prove, seal, spare, swap
from tests.waiting import HANG
from tests.zfs.device import discard, read, write
from tests.zfs.store.conftest import SIZE, Make
from tests.zfs.zfs import destroy, get, holds, names, zfs


def below(store: ZfsStore, name: str) -> set[str]:
    return names(f"{store.layout.parent}/{name}", "volume,snapshot")


def test_a_disk_is_an_untouched_clone_of_its_image(store: ZfsStore, win10: bytes) -> None:
    made = spare(store)
    assert made == Disk("pc1", 1, "win10@1", made.path, "spare")
    assert re.fullmatch(r"/dev/zd\d+", str(made.path))
    assert read(made.path) == win10
    assert store.current("pc1") is None
    prove(store, made)
    disk = swap(store)
    assert disk == Disk("pc1", 1, "win10@1", made.path, "current")
    assert store.current("pc1") == disk
    assert store.disks("pc1") == [disk]
    prove(store, disk)
    assert holds(f"{store.layout.disk('pc1', 1)}@base") == ["zfsiscsi"]


@pytest.mark.usefixtures("win10")
def test_keeps_as_many_spares_as_the_rules_say(make: Make) -> None:
    store = make(spares=3)
    store.open()
    first = spare(store)
    assert [disk.generation for disk in store.disks("pc1")] == [1, 2, 3]
    assert spare(store) == first
    assert [swap(store).generation for _ in range(3)] == [1, 2, 3]
    assert spare(store).generation == 4
    for disk in store.disks("pc1"):
        prove(store, disk)


@pytest.mark.usefixtures("win10")
def test_what_is_there(make: Make) -> None:
    store = make(spares=2, evidence=1)
    store.open()
    spare(store)
    assert (store.spares("pc1"), store.spares("pc2")) == (2, 0)
    found = store.space(deadline=Deadline(HANG))
    assert 0 < found.free < found.total
    assert store.kept(deadline=Deadline(HANG)) == []
    disk = swap(store)
    store.taint(disk)
    write(disk.path, 0)
    swap(store)
    assert store.spares("pc1") == 0
    store.discard_retired("pc1", deadline=Deadline(HANG))
    assert [one.name for one in store.kept(deadline=Deadline(HANG))] == ["pc1-g1"]


@pytest.mark.usefixtures("win10")
def test_swap_makes_a_spare_when_there_is_none_and_retires_the_old(store: ZfsStore) -> None:
    assert [swap(store).generation for _ in range(3)] == [1, 2, 3]
    with pytest.raises(UnprovenDiskError, match="not this host's current or spare"):
        prove(store, Disk("pc1", 2, "win10@1", Path("/dev/zd0"), "current"))
    assert store.discard_retired("pc1", deadline=Deadline(HANG)) == 2
    assert store.discard_retired("pc1", deadline=Deadline(HANG)) == 0
    assert below(store, "disks") == {"pc1/g3", "pc1/g3@base"}


@pytest.mark.usefixtures("win10")
def test_numbers_are_never_used_again(store: ZfsStore, make: Make) -> None:
    swap(store)
    swap(store)
    store.discard_retired("pc1", deadline=Deadline(HANG))
    store.close()
    again = make()
    again.open()
    assert swap(again).generation == 3
    again.close()
    destroy(again.layout.disk("pc1", 3))  # none is left
    again.open()
    assert swap(again).generation == 4


def test_another_image_makes_another_spare(store: ZfsStore, win10: bytes, tmp_path: Path) -> None:
    old = spare(store)
    newer = make_raw(tmp_path / "newer", SIZE)
    seal(store, "win10", newer)
    assert spare(store).image == "win10@2"
    with pytest.raises(UnprovenDiskError):
        prove(store, old)
    assert read(swap(store).path) == newer.read_bytes()
    assert read(swap(store, image="win10@1").path) == win10
    assert store.discard_retired("pc1", deadline=Deadline(HANG)) == 2


# What is written is never proven clean.


@pytest.mark.usefixtures("win10")
@pytest.mark.parametrize("offset", [0, SIZE // 2, SIZE - 4096])
@pytest.mark.parametrize("role", ["spare", "current"])
def test_a_write_is_seen_at_once(store: ZfsStore, role: str, offset: int) -> None:
    disk = spare(store) if role == "spare" else swap(store)
    prove(store, disk)
    write(disk.path, offset)
    with pytest.raises(UnprovenDiskError, match="written since it was made"):
        prove(store, disk)


@pytest.mark.usefixtures("win10")
def test_what_is_unmapped_is_seen_at_once(store: ZfsStore) -> None:
    disk = swap(store)
    discard(disk.path, 0, SIZE)
    with pytest.raises(UnprovenDiskError, match="written since it was made"):
        prove(store, disk)


@pytest.mark.usefixtures("win10")
@pytest.mark.parametrize("offset", [0, SIZE // 2, SIZE - 4096])
def test_a_written_spare_is_none_after_a_restart(store: ZfsStore, make: Make, offset: int) -> None:
    write(spare(store).path, offset)
    store.close()
    again = make()
    again.open()
    assert again.disks("pc1") == []
    assert swap(again).generation == 2


@pytest.mark.usefixtures("win10")
@pytest.mark.parametrize(("offset", "length"), [(0, SIZE), (0, 16384), (SIZE - 16384, 16384)])
def test_an_unmapped_spare_is_none_after_a_restart(
    store: ZfsStore, make: Make, offset: int, length: int
) -> None:
    discard(spare(store).path, offset, length)
    store.close()
    again = make()
    again.open()
    assert again.disks("pc1") == []


def test_an_untouched_spare_is_one_after_a_restart(
    store: ZfsStore, win10: bytes, make: Make
) -> None:
    made = spare(store)
    store.close()
    again = make()
    again.open()
    assert again.disks("pc1") == [made]
    disk = swap(again)
    assert disk.generation == 1
    prove(again, disk)
    assert read(disk.path) == win10
    write(disk.path, 0)
    with pytest.raises(UnprovenDiskError):
        prove(again, disk)


@pytest.mark.usefixtures("win10")
def test_tainted_is_for_ever(store: ZfsStore, make: Make) -> None:
    disk = swap(store)
    prove(store, disk)
    store.taint(disk)
    store.taint(disk)
    with pytest.raises(UnprovenDiskError, match="armed before") as caught:
        prove(store, disk)
    assert caught.value.fix == "zfsiscsi reset pc1"
    ready = spare(store)
    store.taint(ready)
    store.close()
    again = make()
    again.open()
    assert again.disks("pc1") == [disk]
    with pytest.raises(UnprovenDiskError, match="armed before"):
        prove(again, disk)
    assert swap(again).generation == 3


@pytest.mark.usefixtures("win10")
def test_a_current_disk_is_never_proven_after_a_restart(store: ZfsStore, make: Make) -> None:
    disk = swap(store)
    store.close()
    again = make()
    again.open()
    assert again.current("pc1") == disk
    with pytest.raises(UnprovenDiskError):
        prove(again, disk)


@pytest.mark.usefixtures("win10")
def test_a_tainted_disk_has_to_be_there(store: ZfsStore) -> None:
    with pytest.raises(DiskError, match="no generation 7 of pc1"):
        store.taint(Disk("pc1", 7, "win10@1", Path("/dev/zd0"), "current"))


@pytest.mark.usefixtures("win10")
def test_a_spare_that_was_destroyed_by_hand(store: ZfsStore) -> None:
    spare(store)
    destroy(store.layout.disk("pc1", 1))
    disk = swap(store)
    assert disk.generation == 2
    prove(store, disk)
    destroy(store.layout.disk("pc1", 2))
    with pytest.raises(UnprovenDiskError, match=r"zd\d+: No such file|is gone"):
        prove(store, disk)
    assert swap(store).generation == 3
    store.discard_retired("pc1", deadline=Deadline(HANG))
    assert below(store, "disks") == {"pc1/g3", "pc1/g3@base"}


@pytest.mark.usefixtures("win10")
def test_a_base_that_was_made_anew_hides_nothing(store: ZfsStore, make: Make) -> None:
    made = spare(store)
    dataset = store.layout.disk("pc1", 1)
    store.close()
    write(made.path, 0)
    zfs("release", "zfsiscsi", f"{dataset}@base")
    zfs("destroy", f"{dataset}@base")
    zfs("snapshot", f"{dataset}@base")
    zfs("hold", "zfsiscsi", f"{dataset}@base")
    again = make()
    again.open()
    assert get(dataset, "written@base") == "0"
    assert again.disks("pc1") == []


@pytest.mark.usefixtures("win10")
def test_a_base_that_is_not_held_proves_nothing(store: ZfsStore) -> None:
    spare(store)
    zfs("release", "zfsiscsi", f"{store.layout.disk('pc1', 1)}@base")
    disk = swap(store)
    with pytest.raises(UnprovenDiskError, match="@base is not held"):
        prove(store, disk)


@pytest.mark.usefixtures("win10")
def test_another_disk_of_the_same_name_is_not_proven(store: ZfsStore, make: Make) -> None:
    disk = swap(store)
    dataset = store.layout.disk("pc1", 1)
    destroy(dataset)
    zfs("create", "-s", "-b", "16k", "-V", str(SIZE), dataset)
    with pytest.raises(UnprovenDiskError):
        prove(store, disk)


@pytest.mark.usefixtures("win10")
def test_a_disk_of_another_image_is_not_proven(store: ZfsStore) -> None:
    disk = swap(store)
    with pytest.raises(UnprovenDiskError, match="not this host's current or spare"):
        prove(store, Disk("pc1", disk.generation, "win10@2", disk.path, "current"))
    with pytest.raises(UnprovenDiskError, match="no generation 7"):
        prove(store, Disk("pc1", 7, "win10@1", disk.path, "current"))


@pytest.mark.usefixtures("win10")
def test_a_disk_that_reads_otherwise_is_seen_by_the_sample(
    store: ZfsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As if neither ZFS nor the kernel had noticed.
    disk = swap(store)
    write(disk.path, 0)
    monkeypatch.setattr("cuckoo_zfsiscsi.disk.store.zfs_proof.State.flaw", lambda *_: "")
    clone = store._host("pc1").find(1)
    from cuckoo_zfsiscsi.disk.store.zfs_device import count_writes

    clone.clean = count_writes(disk.path)
    with pytest.raises(UnprovenDiskError, match="disk and image win10@1 differ"):
        prove(store, disk)


@pytest.mark.usefixtures("win10")
def test_a_kernel_that_does_not_count_proves_nothing(store: ZfsStore) -> None:
    disk = swap(store)
    (Path("/sys/block") / disk.path.name / "queue/iostats").write_text("0")
    with pytest.raises(DiskError, match="does not count the writes") as caught:
        prove(store, disk)
    assert "iostats" in caught.value.fix


@pytest.mark.usefixtures("win10")
def test_the_second_proof_does_not_ask_zfs(
    store: ZfsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = swap(store)
    prove(store, disk)

    def fail(*_arguments: object) -> None:
        raise AssertionError

    monkeypatch.setattr(Zfs, "read_unbounded", fail)
    prove(store, disk)
    write(disk.path, 0)
    with pytest.raises(UnprovenDiskError):
        prove(store, disk)


@pytest.mark.usefixtures("win10")
def test_a_swap_changes_nothing_in_the_pool(
    store: ZfsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    spare(store)
    store._host("pc1").flush(Deadline(HANG))

    def fail(*_arguments: object, **_more: object) -> None:
        raise AssertionError

    monkeypatch.setattr(Zfs, "_change", fail)
    monkeypatch.setattr(Zfs, "_lzc", fail)
    monkeypatch.setattr(Zfs, "command", fail)
    monkeypatch.setattr(store._writer, "put", lambda _facts: None)
    disk = swap(store)
    prove(store, disk)
    store.taint(disk)
    monkeypatch.undo()


# Images that are not there.


def test_no_image_no_disk(store: ZfsStore) -> None:
    for call in (spare, swap):
        with pytest.raises(ImageError, match="no image win10") as caught:
            call(store)
        assert "zfsiscsi image import win10" in caught.value.fix
    assert below(store, "disks") == set()


@pytest.mark.usefixtures("win10")
def test_a_missing_version_changes_nothing(store: ZfsStore) -> None:
    disk, ready = swap(store), spare(store)
    with pytest.raises(ImageError, match="no image win10@7"):
        swap(store, image="win10@7")
    with pytest.raises(ImageError, match="no image win10@7"):
        store.rollback("pc1", "win10@7", deadline=Deadline(HANG))
    assert store.disks("pc1") == [disk, ready]


def test_a_damaged_image_makes_no_disk(
    store: ZfsStore, win10: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cuckoo_zfsiscsi.disk.store.zfs_device.sample", lambda _path: "other")
    with pytest.raises(ImageError, match="is not what was sealed"):
        swap(store)
    assert below(store, "disks") == set()
    monkeypatch.undo()
    assert swap(store).generation == 2


# One store, one service.


def test_two_services_on_one_store(store: ZfsStore, make: Make) -> None:
    other = make()
    with pytest.raises(DiskError, match=f"in use by another service, process {os.getpid()}"):
        other.open()
    store.close()
    store.close()
    other.open()


def test_the_pid_of_the_other_service_is_named(make: Make, place: str) -> None:
    code = (
        "import sys\n"
        "from cuckoo_zfsiscsi.disk.store.zfs import ZfsStore\n"
        "ZfsStore(sys.argv[1]).open(); print('open', flush=True); sys.stdin.read()"
    )
    argv = [sys.executable, "-c", code, place]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"open\n"
        with pytest.raises(DiskError, match=f"process {other.pid}") as caught:
            make().open()
        assert "ps -fp" in caught.value.fix
        other.kill()
    make().open()


def test_a_second_controller_is_refused_until_it_is_told_to_take_over(
    store: ZfsStore, make: Make
) -> None:
    # As after a crash of this machine, when another one imports the pool
    store._lease._handle, handle = None, store._lease._handle
    os.close(handle or -1)
    other = make(server=Server("another"))
    with pytest.raises(DiskError, match="in use by another server") as caught:
        other.open()
    assert caught.value.fix.endswith(f"zfsiscsi storage init {store.layout.place} --take")
    make().open()


def test_a_store_that_was_closed_can_be_had_by_another_machine(store: ZfsStore, make: Make) -> None:
    store.close()
    make(server=Server("another")).open()


def test_what_a_crash_left_and_can_not_be_dropped_now_keeps_no_service_down(
    store: ZfsStore, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.close()
    layout = store.layout
    imported = f"{layout.imports}/left"
    evidence = layout.kept("pc1", 1)
    zfs("create", "-sV", "1M", "-b", "16K", imported)
    zfs("create", "-sV", "1M", "-b", "16K", "-o", "zfsiscsi:role=dropped", evidence)

    def busy(*_names: object, deadline: Deadline) -> None:
        raise DeadlineExceededError("the pool is busy")

    with monkeypatch.context() as patch:
        patch.setattr(Zfs, "destroy", busy)
        other = make()
        other.open()
        other.close()
    make().open()
    assert names(layout.imports) == names(layout.evidence) == set()


def test_disks_need_an_open_store(make: Make) -> None:
    store = make()
    for call in (spare, swap):
        with pytest.raises(DiskError, match="is not open"):
            call(store)


@pytest.mark.parametrize("host", ["", "..", "a/b", "a@b", ".pc1", "pc 1", "pc1\n", "x" * 65])
def test_host_names_can_not_leave_the_store(store: ZfsStore, host: str) -> None:
    with pytest.raises(DiskError, match="can't be a host's name"):
        store.current(host)


def test_a_place_that_is_not_ready(pool: str, parent: str) -> None:
    with pytest.raises(DiskError, match="is not ready") as caught:
        ZfsStore(parent).open()
    assert caught.value.fix == f"zfsiscsi storage init {parent}"
    with pytest.raises(DiskError, match=f"there is no dataset {pool}/nowhere"):
        ZfsStore(f"{pool}/nowhere").open()
    with pytest.raises(DiskError, match="there is no pool nopool"):
        ZfsStore("nopool").open()


# Threads of one service.


@pytest.mark.usefixtures("win10")
def test_a_swap_does_not_wait_for_work_in_the_background(
    store: ZfsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    spare(store)
    spare(store, "pc2")
    begun, go_on = threading.Event(), threading.Event()
    real = Zfs.sync

    def slow(zfs: Zfs, *, deadline: Deadline) -> None:
        begun.set()
        go_on.wait(HANG)
        real(zfs, deadline=deadline)

    monkeypatch.setattr(Zfs, "sync", slow)
    monkeypatch.setattr(
        "cuckoo_zfsiscsi.disk.store.zfs_rules.Rules.of",
        lambda *_: __import__("types").SimpleNamespace(spares=2, evidence=0),
    )
    thread = threading.Thread(target=spare, args=(store,))
    thread.start()
    assert begun.wait(HANG)
    assert swap(store, "pc2").generation == 1
    assert swap(store).generation == 1  # the ready one, while the next is made
    with pytest.raises(DeadlineExceededError, match="another operation on the disks of pc1"):
        store.begin_swap("pc1", "win10", deadline=Deadline(0.5))()
    cancel = Cancel()
    cancel.set("stop")
    with pytest.raises(CancelledError):
        store.discard_retired("pc1", deadline=Deadline(20, cancel))
    go_on.set()
    disk = swap(store)
    thread.join()
    prove(store, disk)


@pytest.mark.usefixtures("win10")
def test_zfs_that_does_not_answer_is_given_up(
    store: ZfsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    import libzfs_core

    disk = swap(store)
    store._host("pc1").find(1).proven = None
    go_on = threading.Event()
    hang = partial(go_on.wait, HANG)
    monkeypatch.setattr(libzfs_core, "lzc_channel_program_nosync", lambda *_, **__: hang())
    with pytest.raises(DeadlineExceededError, match="proving generation 1 of pc1 took longer"):
        store.prove(disk, deadline=Deadline(0.5))
    with pytest.raises(DeadlineExceededError):
        store.begin_swap("pc1", "win10", deadline=Deadline(0.5))()
    monkeypatch.undo()
    go_on.set()
    prove(store, swap(store))


@pytest.mark.usefixtures("win10")
def test_a_spare_that_fails_leaves_nothing_and_its_number_is_gone(
    store: ZfsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object, **_more: object) -> None:
        raise DiskError("no sync today")

    monkeypatch.setattr(Zfs, "sync", fail)
    with pytest.raises(DiskError, match="no sync today"):
        spare(store)
    assert below(store, "disks") == set()
    monkeypatch.undo()
    made = store.make_spare("pc1", "win10", deadline=Deadline(HANG), progress=silent)
    assert made.generation == 2

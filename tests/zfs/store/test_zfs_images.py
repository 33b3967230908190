from __future__ import annotations

import os
import subprocess
import threading
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.deadline import Cancel, Deadline
from cuckoo_zfsiscsi.disk.store import zfs_images
from cuckoo_zfsiscsi.disk.store.convert import convert
from cuckoo_zfsiscsi.disk.store.zfs import ZfsStore
from cuckoo_zfsiscsi.disk.store.zfs_call import Zfs
from cuckoo_zfsiscsi.disk.store.zfs_rules import Rules
from cuckoo_zfsiscsi.errors import CancelledError, DiskError, ImageError, StoreFullError
from cuckoo_zfsiscsi.progress import silent
from tests.disk.content import make_raw, prove, seal, spare, swap
from tests.waiting import HANG
from tests.zfs.device import claimed, device_of, read, write
from tests.zfs.store.conftest import SIZE, Make
from tests.zfs.zfs import get, holds, names, zfs


def below(store: ZfsStore, name: str) -> set[str]:
    return names(f"{store.layout.parent}/{name}", "volume,snapshot")


def add(store: ZfsStore, source: Path, name: str = "win10") -> str:
    return store.import_image(name, source, deadline=Deadline(HANG), progress=silent).ref


def edit(store: ZfsStore, host: str = "pc1", name: str = "win10") -> str:
    return store.edit_image(host, name, deadline=Deadline(HANG)).image


def do_seal(store: ZfsStore, ref: str) -> str:
    return store.seal(ref, deadline=Deadline(HANG), progress=silent).ref


def device(store: ZfsStore, dataset: str) -> Path:
    return device_of(f"{store.layout.parent}/{dataset}")


# Import and seal.


@pytest.mark.parametrize("kind", ["raw", "qcow2", "vmdk"])
def test_what_is_imported_is_what_the_file_holds(
    store: ZfsStore, source: Path, tmp_path: Path, kind: str
) -> None:
    file = tmp_path / f"disk.{kind}"
    argv = ["qemu-img", "convert", "-f", "raw", "-O", kind, str(source), str(file)]
    subprocess.run(argv, check=True)
    told: list[tuple[int, int]] = []
    image = store.import_image(
        "win10", file, deadline=Deadline(HANG), progress=lambda *at: told.append(at)
    )
    assert (image.ref, image.size, image.sealed, image.digest) == ("win10@1", SIZE, False, "")
    assert told[-1] == (SIZE, SIZE)
    with pytest.raises(ImageError, match="win10 is not sealed"):
        store.find_image("win10")
    sealed = store.seal("win10", deadline=Deadline(HANG), progress=silent)
    assert sealed.sealed
    assert sealed.digest == f"{int(get(store.layout.image('win10', 1) + '@sealed', 'guid')):016x}"
    assert store.find_image("win10") == store.find_image("win10@1") == sealed
    assert holds(store.layout.image("win10", 1) + "@sealed") == ["zfsiscsi"]
    assert read(swap(store).path) == source.read_bytes()


def test_holes_take_no_space(store: ZfsStore, tmp_path: Path) -> None:
    source = make_raw(tmp_path / "large", 1 << 30)
    image = seal(store, "win10", source)
    assert image.size == 1 << 30
    assert 1 << 20 < image.used < 3 << 20


def test_a_size_that_is_no_multiple_of_a_block_is_rounded_up(
    store: ZfsStore, tmp_path: Path
) -> None:
    source = make_raw(tmp_path / "odd", SIZE + 512)
    assert seal(store, "win10", source).size == SIZE + 16384
    content = read(swap(store).path)
    assert content[: SIZE + 512] == source.read_bytes()
    assert not any(content[SIZE + 512 :])


def test_versions_are_never_used_again(store: ZfsStore, source: Path, make: Make) -> None:
    assert [seal(store, "win10", source).version for _ in range(2)] == [1, 2]
    store.delete_image("win10@2")
    assert add(make(), source) == "win10@3"
    assert [image.ref for image in store.images()] == ["win10@1", "win10@3"]
    assert store.find_image("win10").version == 1


@pytest.mark.usefixtures("win10")
def test_sealed_is_for_good(store: ZfsStore) -> None:
    before = store.find_image("win10")
    assert store.seal("win10@1", deadline=Deadline(HANG), progress=silent) == before
    with pytest.raises(OSError, match=r"Read-only|not permitted"):
        write(device(store, "images/win10/1"), 0)


def test_an_image_in_use_is_not_sealed(store: ZfsStore, source: Path) -> None:
    add(store, source)
    with (
        claimed(device(store, "images/win10/1")),
        pytest.raises(DiskError, match="win10@1 is in use"),
    ):
        do_seal(store, "win10")
    assert do_seal(store, "win10") == "win10@1"


def test_an_image_that_is_written_while_it_is_sealed(
    store: ZfsStore, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(store, source)
    real = Zfs.snapshot

    def snapshot(*arguments: object, **more: object) -> None:
        write(device(store, "images/win10/1"), 0)
        real(*arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Zfs, "snapshot", snapshot)
    with pytest.raises(ImageError, match="was written while it was sealed"):
        do_seal(store, "win10")
    monkeypatch.undo()
    assert below(store, "images") == {"win10/1"}
    do_seal(store, "win10")
    disk = swap(store)
    prove(store, disk)
    assert read(disk.path)[:8] == b"infected"


@pytest.mark.parametrize("name", ["", "..", "a/b", "win10@1", "a b", "x" * 65])
def test_names_that_can_not_be(store: ZfsStore, source: Path, name: str) -> None:
    with pytest.raises(ImageError, match="can't be an image's name"):
        add(store, source, name)


@pytest.mark.parametrize("ref", ["", "win10@", "win10@0", "win10@x", "a/b"])
def test_references_that_can_not_be(store: ZfsStore, ref: str) -> None:
    with pytest.raises(ImageError, match="is no image"):
        store.find_image(ref)


def test_a_failed_import_leaves_nothing(store: ZfsStore, tmp_path: Path) -> None:
    cancel = Cancel()
    source = make_raw(tmp_path / "source", 64 << 20)

    def progress(_done: int, _total: int) -> None:
        cancel.set("enough")

    with pytest.raises(CancelledError):
        store.import_image("win10", source, deadline=Deadline(60, cancel), progress=progress)
    assert names(store.layout.parent) == {"images", "imports", "disks", "evidence"}
    with pytest.raises(ImageError, match="can't read"):
        add(store, tmp_path / "nowhere")


def test_a_half_made_import_is_removed_and_one_that_goes_on_is_not(
    store: ZfsStore, source: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    zfs("create", "-s", "-V", "1m", f"{store.layout.imports}/dead")
    begun, go_on = threading.Event(), threading.Event()

    def slow(*arguments: object, **more: object) -> None:
        begun.set()
        go_on.wait(HANG)
        convert(*arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(zfs_images, "convert", slow)
    thread = threading.Thread(target=add, args=(store, source))
    thread.start()
    assert begun.wait(HANG)
    monkeypatch.undo()
    assert len(below(store, "imports")) == 1
    assert add(make(), source, "other") == "other@1"
    assert len(below(store, "imports")) == 1
    go_on.set()
    thread.join()
    assert below(store, "imports") == set()
    assert [image.ref for image in store.images()] == ["other@1", "win10@1"]


def test_an_image_that_does_not_fit(small_pool: str, tmp_path: Path) -> None:
    from cuckoo_zfsiscsi.disk.store.zfs_setup import Setup

    store = ZfsStore(small_pool, Rules(pool_free=1))
    Setup(store.layout, store.zfs).init(take=False, deadline=Deadline(HANG))
    source = tmp_path / "source"
    with source.open("wb") as file:
        for _ in range(160):
            file.write(os.urandom(1 << 20))
    with pytest.raises(StoreFullError, match="no room for image win10") as caught:
        add(store, source)
    assert "zfsiscsi image list" in caught.value.fix
    packed = tmp_path / "packed.qcow2"  # looks small, and is not
    small = make_raw(tmp_path / "small", 200 << 20)
    argv = ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(small), str(packed)]
    subprocess.run(argv, check=True)
    assert add(store, packed) == "win10@1"
    assert names(store.layout.imports) == set()


def test_a_pool_that_runs_full_while_importing(
    small_pool: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cuckoo_zfsiscsi.disk.store.zfs_setup import Setup
    from cuckoo_zfsiscsi.disk.store.zfs_space import Room

    store = ZfsStore(small_pool, Rules(pool_free=1))
    Setup(store.layout, store.zfs).init(take=False, deadline=Deadline(HANG))
    monkeypatch.setattr(Room, "make", lambda *_, **__: None)
    source = tmp_path / "source"
    with source.open("wb") as file:
        for _ in range(200):
            file.write(os.urandom(1 << 20))
    with pytest.raises(StoreFullError, match="no space left in the pool"):
        add(store, source)
    assert names(store.layout.imports) == set()
    assert store.images() == []


# Versions: who uses them, which one a name stands for, which may go.


@pytest.mark.usefixtures("win10")
def test_users_are_hosts_that_have_a_disk_of_it(store: ZfsStore, source: Path) -> None:
    assert store.users("win10@1") == []
    swap(store)
    spare(store, "pc2")
    assert store.users("win10@1") == ["pc1", "pc2"]
    with pytest.raises(ImageError, match="in use by pc1, pc2"):
        store.delete_image("win10@1")
    seal(store, "win10", source)
    swap(store)
    spare(store, "pc2")
    assert store.users("win10@1") == ["pc1", "pc2"]  # retired ones count
    for host in ("pc1", "pc2"):
        store.discard_retired(host, deadline=Deadline(HANG))
    assert store.users("win10@1") == []
    assert store.users("win10@2") == ["pc1", "pc2"]
    store.delete_image("win10@1")
    assert [image.ref for image in store.images()] == ["win10@2"]


@pytest.mark.usefixtures("win10")
def test_only_a_version_can_be_deleted(store: ZfsStore) -> None:
    with pytest.raises(ImageError, match="does not say which version"):
        store.delete_image("win10")
    with pytest.raises(ImageError, match="no image win10@2"):
        store.delete_image("win10@2")


@pytest.mark.usefixtures("win10")
def test_an_image_that_someone_else_holds_is_not_deleted(store: ZfsStore) -> None:
    sealed = f"{store.layout.image('win10', 1)}@sealed"
    zfs("hold", "backup", sealed)
    with pytest.raises(DiskError, match="held by someone else: backup") as caught:
        store.delete_image("win10@1")
    assert caught.value.fix == f"zfs release backup {sealed}"
    assert sorted(holds(sealed)) == ["backup", "zfsiscsi"]
    prove(store, swap(store))


@pytest.mark.usefixtures("win10")
def test_a_name_can_stand_for_an_earlier_version(store: ZfsStore, source: Path) -> None:
    seal(store, "win10", source)
    assert store.rollback_image("win10@1").ref == "win10@1"
    assert store.find_image("win10").version == 1
    assert store.find_image("win10@2").version == 2
    assert swap(store).image == "win10@1"
    seal(store, "win10", source)
    assert store.find_image("win10").version == 3
    store.rollback_image("win10@2")
    store.delete_image("win10@2")
    assert store.find_image("win10").version == 3
    store.rollback_image("win10@3")
    assert store.find_image("win10").version == 3
    for ref, why in (("win10", "does not say which"), ("win10@2", "no image win10@2")):
        with pytest.raises(ImageError, match=why):
            store.rollback_image(ref)


# Drafts.


def test_a_draft_is_changed_and_becomes_the_next_version(store: ZfsStore, win10: bytes) -> None:
    draft = store.edit_image("pc1", "win10", deadline=Deadline(HANG))
    assert (draft.host, draft.image, draft.role) == ("pc1", "win10@2", "draft")
    assert store.disks("pc1") == [draft]
    assert store.users("win10@2") == ["pc1"]
    assert store.find_image("win10").version == 1
    assert read(draft.path) == win10
    write(draft.path, 0)
    assert store.edit_image("pc1", "win10", deadline=Deadline(HANG)) == draft
    with pytest.raises(ImageError, match="win10@2 is being edited by pc1") as caught:
        edit(store, "pc2")
    assert "zfsiscsi image seal win10@2" in caught.value.fix
    with (
        claimed(draft.path),
        pytest.raises(ImageError, match="win10@2 can't be sealed, pc1 still has it"),
    ):
        do_seal(store, "win10")
    do_seal(store, "win10")
    assert store.disks("pc1") == []
    assert store.users("win10@2") == []
    disk = swap(store, "pc2")
    assert (disk.image, read(disk.path)[:8]) == ("win10@2", b"infected")
    prove(store, disk)
    assert read(swap(store, image="win10@1").path) == win10
    swap(store)
    store.discard_retired("pc1", deadline=Deadline(HANG))
    with pytest.raises(ImageError, match="is what was edited to make win10@2"):
        store.delete_image("win10@1")


@pytest.mark.usefixtures("win10")
def test_drafts_have_numbers_of_their_own(store: ZfsStore, make: Make) -> None:
    swap(store)
    draft = store.edit_image("pc1", "win10", deadline=Deadline(HANG))
    assert draft.generation == 2
    store.close()
    again = make()
    again.open()
    assert again.disks("pc1")[-1] == draft
    assert swap(again).generation == 3


@pytest.mark.usefixtures("win10")
def test_what_was_imported_can_be_edited_before_it_is_sealed(store: ZfsStore, source: Path) -> None:
    add(store, source)
    assert edit(store, "pc2") == "win10@2"
    store.delete_image("win10@1")


@pytest.mark.usefixtures("win10")
def test_a_draft_can_be_given_up_once_its_host_let_go_of_it(
    store: ZfsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cuckoo_zfsiscsi.disk.store.zfs.CHANGE_TIMEOUT", 5.0)
    edit(store, "pc2")
    with (
        claimed(device(store, "images/win10/2")),
        pytest.raises(ImageError, match="can't be deleted, pc2 still has it") as caught,
    ):
        store.delete_image("win10@2")
    assert caught.value.fix.endswith("maintenance pc2 off, then delete it again")
    store.delete_image("win10@2")
    assert [image.ref for image in store.images()] == ["win10@1"]
    assert edit(store) == "win10@3"


@pytest.mark.usefixtures("win10")
def test_a_draft_begins_with_what_the_name_stands_for(store: ZfsStore, tmp_path: Path) -> None:
    seal(store, "win10", make_raw(tmp_path / "newer", SIZE))
    store.rollback_image("win10@1")
    draft = store.edit_image("pc1", "win10", deadline=Deadline(HANG))
    assert get(store.layout.image("win10", 3), "origin").endswith("win10/1@sealed")
    assert draft.image == "win10@3"


@pytest.mark.usefixtures("win10")
def test_only_an_image_is_edited_not_a_version(store: ZfsStore) -> None:
    with pytest.raises(ImageError, match="a sealed one never changes"):
        edit(store, name="win10@1")
    with pytest.raises(ImageError, match="no image win7"):
        edit(store, name="win7")


@pytest.mark.usefixtures("win10")
def test_a_seal_that_was_not_finished_is_when_the_store_is_opened(
    store: ZfsStore, make: Make, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(store, source)
    store.rollback_image("win10@1")

    def fail(*_arguments: object, **_more: object) -> None:
        raise DiskError("the power failed")

    monkeypatch.setattr(Zfs, "hold", fail)
    with pytest.raises(DiskError, match="the power failed"):
        do_seal(store, "win10@2")
    monkeypatch.undo()
    store.close()
    again = make()
    again.open()
    assert holds(again.layout.image("win10", 2) + "@sealed") == ["zfsiscsi"]
    assert again.find_image("win10").version == 2

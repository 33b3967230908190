from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.deadline import Cancel, Deadline
from cuckoo_zfsiscsi.disk.store import file_images
from cuckoo_zfsiscsi.disk.store.facts import unprotect
from cuckoo_zfsiscsi.disk.store.file import FileStore
from cuckoo_zfsiscsi.errors import CancelledError, DeadlineExceededError, ImageError, StoreFullError
from cuckoo_zfsiscsi.progress import silent
from tests.disk.content import MIB, files, make_raw, poke, seal, spare, swap
from tests.waiting import HANG


def add(store: FileStore, name: str, source: Path) -> str:
    return store.import_image(name, source, deadline=Deadline(HANG), progress=silent).ref


def test_versions_count_up_and_are_never_used_again(store: FileStore, tmp_path: Path) -> None:
    source = make_raw(tmp_path / "a")
    assert [add(store, "win10", source) for _ in range(2)] == ["win10@1", "win10@2"]
    assert add(store, "win7.x_64-a", source) == "win7.x_64-a@1"
    store.delete_image("win10@2")
    assert add(store, "win10", source) == "win10@3"
    assert [image.ref for image in store.images()] == ["win10@1", "win10@3", "win7.x_64-a@1"]


def test_sealed_is_read_only_and_on_record(store: FileStore, tmp_path: Path) -> None:
    source = make_raw(tmp_path / "a")
    ref = add(store, "win10", source)
    assert not store.images()[0].sealed
    assert store.images()[0].digest == ""
    told: list[int] = []
    image = store.seal(ref, deadline=Deadline(HANG), progress=lambda done, _: told.append(done))
    assert image.sealed
    assert image.size == 5 * MIB == told[-1]
    assert len(image.digest) == 64
    assert store.seal("win10", deadline=Deadline(HANG), progress=silent) == image
    path = store.path / "images/win10/1.raw"
    assert path.stat().st_mode & 0o777 == 0o400
    with pytest.raises(PermissionError):
        poke(path, 0)
    assert path.read_bytes() == source.read_bytes()


def test_a_name_is_its_newest_sealed_version(store: FileStore, tmp_path: Path) -> None:
    source = make_raw(tmp_path / "a")
    for _ in range(2):
        seal(store, "win10", source)
    add(store, "win10", source)
    assert store.find_image("win10").ref == "win10@2"
    assert store.find_image("win10@1").ref == "win10@1"
    with pytest.raises(ImageError, match="win10@3 is not sealed") as caught:
        store.find_image("win10@3")
    assert caught.value.fix == "zfsiscsi image seal win10@3"
    for ref in ("win11", "win10@4"):
        with pytest.raises(ImageError, match=f"no image {ref}"):
            store.find_image(ref)
    for ref in ("", "@1", "win10@", "win10@0", "win10@x", "win10@1@2", "../win10", "a/b@1"):
        with pytest.raises(ImageError, match="is no image"):
            store.find_image(ref)


@pytest.mark.parametrize("name", ["", "..", "a/b", ".hidden", "a b", "a@1", "x" * 65])
def test_names_can_not_leave_the_store(store: FileStore, tmp_path: Path, name: str) -> None:
    with pytest.raises(ImageError, match="can't be an image's name"):
        add(store, name, make_raw(tmp_path / "a"))
    assert files(store.path) == {"lock", "images/lock"}


def test_images_need_no_open_store(root: Path, tmp_path: Path) -> None:
    store = FileStore(root / "deep" / "down", immutable=False)
    assert store.images() == []
    assert seal(store, "win10", make_raw(tmp_path / "a")).ref == "win10@1"
    store.delete_image("win10@1")
    assert files(store.path) == {"images/lock", "images/win10/last.json"}


def test_a_written_image_is_not_sealed(store: FileStore, tmp_path: Path) -> None:
    ref = add(store, "win10", make_raw(tmp_path / "a"))
    path = store.path / "images/win10/1.raw"

    def progress(_done: int, _total: int) -> None:
        poke(path, 0)

    with pytest.raises(ImageError, match="was written while it was sealed"):
        store.seal(ref, deadline=Deadline(HANG), progress=progress)
    assert not store.images()[0].sealed
    store.seal(ref, deadline=Deadline(HANG), progress=silent)


def test_deleted_while_it_is_sealed(store: FileStore, tmp_path: Path) -> None:
    ref = add(store, "win10", make_raw(tmp_path / "a"))

    def progress(_done: int, _total: int) -> None:
        with contextlib.suppress(ImageError):
            FileStore(store.path).delete_image(ref)

    with pytest.raises(ImageError, match="no image win10@1"):
        store.seal(ref, deadline=Deadline(HANG), progress=progress)
    assert store.images() == []


@pytest.mark.usefixtures("win10")
def test_deleted_while_it_is_hashed_again(store: FileStore) -> None:
    path = store.path / "images/win10/1.raw"
    unprotect(path)
    os.utime(path)
    images = store._images
    golden = images.find("win10")

    def progress(_done: int, _total: int) -> None:
        with contextlib.suppress(ImageError):
            FileStore(store.path).delete_image("win10@1")

    with pytest.raises((ImageError, FileNotFoundError)):
        images.verify(golden, deadline=Deadline(HANG), progress=progress)
    assert store.images() == []


@pytest.mark.usefixtures("win10")
def test_in_use_is_not_deleted(store: FileStore, tmp_path: Path) -> None:
    seal(store, "win10", make_raw(tmp_path / "newer"))
    swap(store, "pc1", "win10@1")
    spare(store, "pc2", "win10@1")
    with pytest.raises(ImageError, match="image win10@1 is in use by pc1, pc2"):
        FileStore(store.path).delete_image("win10@1")
    assert store.users("win10@1") == ["pc1", "pc2"]
    assert store.users("win10@2") == []
    swap(store, "pc1")
    with pytest.raises(ImageError, match="in use by pc1, pc2"):  # a retired disk is one, too
        store.delete_image("win10@1")
    store.discard_retired("pc1", deadline=Deadline(HANG))
    with pytest.raises(ImageError, match="in use by pc2"):
        store.delete_image("win10@1")
    spare(store, "pc2")
    store.discard_retired("pc2", deadline=Deadline(HANG))
    store.delete_image("win10@1")
    assert [image.ref for image in store.images()] == ["win10@2"]


@pytest.mark.usefixtures("win10")
def test_only_a_version_is_deleted(store: FileStore) -> None:
    with pytest.raises(ImageError, match="does not say which version"):
        store.delete_image("win10")
    with pytest.raises(ImageError, match="no image win10@2"):
        store.delete_image("win10@2")


@pytest.mark.usefixtures("win10")
def test_deleted_while_a_spare_is_made(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    # The other process deletes between the look at the image and its use.
    real = file_images.Images.verify

    def late(*args: object, **kwargs: object) -> object:
        golden = real(*args, **kwargs)  # type: ignore[arg-type]
        FileStore(store.path).delete_image("win10@1")
        return golden

    monkeypatch.setattr(file_images.Images, "verify", late)
    with pytest.raises(ImageError, match="no image win10@1"):
        spare(store)
    assert files(store.path / "disks") == set()


def test_lists_beside_deletions(store: FileStore, tmp_path: Path) -> None:
    source, end = make_raw(tmp_path / "a", 512), threading.Event()
    errors: list[BaseException] = []

    def look() -> None:
        while not end.is_set():
            try:
                store.images()
            except BaseException as error:  # noqa: BLE001 - asserted on below
                errors.append(error)
                return

    thread = threading.Thread(target=look)
    thread.start()
    for _ in range(5):
        store.delete_image(add(store, "win10", source))
    end.set()
    thread.join()
    assert errors == []


# Nothing is left behind.


def test_failed_imports_leave_nothing(store: FileStore, tmp_path: Path) -> None:
    before = files(store.path)
    with pytest.raises(ImageError):
        add(store, "win10", tmp_path / "missing")
    cancel = Cancel()

    def progress(_done: int, _total: int) -> None:
        cancel.set("Ctrl-C")

    with pytest.raises(CancelledError):
        store.import_image(
            "win10", make_raw(tmp_path / "a", 64 * MIB), deadline=Deadline(HANG, cancel),
            progress=progress,
        )  # fmt: skip
    assert files(store.path) == before


def test_no_space_for_an_import(tiny: Path, tmp_path: Path) -> None:
    store = FileStore(tiny / "store")
    source = tmp_path / "a.raw"
    source.write_bytes(os.urandom(20 * MIB))
    with pytest.raises(StoreFullError, match="no space left in") as caught:
        add(store, "win10", source)
    assert "df -h" in caught.value.fix
    assert files(store.path) == {"images/lock"} or files(store.path) == set()


def test_no_space_in_the_middle_of_an_import(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_images, "check_space", lambda *_: None)
    store = FileStore(tiny / "store")
    source = tmp_path / "a.raw"
    source.write_bytes(os.urandom(20 * MIB))
    with pytest.raises(StoreFullError):
        add(store, "win10", source)
    assert files(store.path) == {"images/lock"}


def test_no_space_for_the_record(
    store: FileStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_golden: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(file_images.Golden, "write", fails)
    with pytest.raises(StoreFullError):
        add(store, "win10", make_raw(tmp_path / "a"))
    assert files(store.path) == {"lock", "images/lock", "images/win10/last.json"}


def test_no_space_for_a_spare(tiny: Path, tmp_path: Path) -> None:
    store = FileStore(tiny / "store", immutable=False)
    store.open()
    source = tmp_path / "a.raw"
    source.write_bytes(os.urandom(3 * MIB))
    seal(store, "win10", source)
    disk = swap(store)
    before = files(store.path)
    with pytest.raises(StoreFullError):
        spare(store)
    assert files(store.path) == before
    store.prove(disk, deadline=Deadline(HANG))
    assert store.current("pc1") == disk
    store.close()


def test_what_a_crash_left_is_removed_but_not_what_another_process_makes(
    store: FileStore, tmp_path: Path
) -> None:
    images = store.path / "images"
    add(store, "win10", make_raw(tmp_path / "a"))
    (images / "0123.part").write_bytes(b"half an import")
    (images / "win10/2.raw").write_bytes(b"no record")
    (images / "win10/1.json.part").write_bytes(b"half a record")
    store.close()

    def progress(_done: int, _total: int) -> None:
        other.open()  # while the import runs elsewhere
        other.close()

    other = FileStore(store.path)
    ref = other.import_image(
        "win10", make_raw(tmp_path / "b"), deadline=Deadline(HANG), progress=progress
    ).ref
    assert ref == "win10@2"
    assert files(images) == {
        "lock", "win10/last.json", "win10/1.raw", "win10/1.json", "win10/2.raw", "win10/2.json"
    }  # fmt: skip


@pytest.mark.usefixtures("win10")
def test_waits_for_the_other_process_but_not_for_ever(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cuckoo_zfsiscsi.disk.store.file.LOCK_TIMEOUT", 0.1)
    with (
        FileStore(store.path)._images.lock(Deadline(HANG)),
        pytest.raises(DeadlineExceededError, match="images' lock"),
    ):
        store.delete_image("win10@1")

"""Drafts of the file store: the same promises as those of the ZFS store."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.reset import grant
from cuckoo_zfsiscsi.disk.store import Disk
from cuckoo_zfsiscsi.disk.store.facts import opened_by
from cuckoo_zfsiscsi.disk.store.file import FileStore
from cuckoo_zfsiscsi.disk.target.tgt import TgtTarget
from cuckoo_zfsiscsi.errors import ImageError
from cuckoo_zfsiscsi.progress import silent
from tests.disk.content import files, make_raw, poke, prove, seal, swap
from tests.waiting import HANG


def edit(store: FileStore, host: str = "pc1", name: str = "win10") -> Disk:
    return store.edit_image(host, name, deadline=Deadline(HANG))


def do_seal(store: FileStore, ref: str = "win10") -> None:
    store.seal(ref, deadline=Deadline(HANG), progress=silent)


def test_a_draft_is_changed_and_becomes_the_next_version(store: FileStore, win10: Path) -> None:
    draft = edit(store)
    assert (draft.host, draft.image, draft.role) == ("pc1", "win10@2", "draft")
    assert store.disks("pc1") == [draft] == [edit(store)]
    assert store.users("win10@2") == ["pc1"]
    assert store.find_image("win10").version == 1, "hosts go on with what is sealed"
    assert draft.path.read_bytes() == win10.read_bytes()
    poke(draft.path, 0)
    with pytest.raises(ImageError, match="win10@2 is being edited by pc1") as caught:
        edit(store, "pc2")
    assert "zfsiscsi image seal win10@2" in caught.value.fix
    do_seal(store)
    assert (store.disks("pc1"), store.users("win10@2")) == ([], [])
    disk = swap(store, "pc2")
    assert (disk.image, disk.path.read_bytes()[:8]) == ("win10@2", b"infected")
    prove(store, disk)
    assert swap(store, image="win10@1").path.read_bytes() == win10.read_bytes()


@pytest.mark.usefixtures("win10")
def test_a_draft_that_the_target_has_stays(store: FileStore, target: TgtTarget) -> None:
    draft = edit(store)
    grant(target, draft, deadline=Deadline(HANG))
    with pytest.raises(ImageError, match=r"can't be sealed, pc1 still has it: tgtd, process \d+"):
        do_seal(store)
    with pytest.raises(ImageError, match="can't be deleted, pc1 still has it") as caught:
        store.delete_image("win10@2")
    assert caught.value.fix.endswith("maintenance pc1 off, then delete it again")
    target.fence("pc1", deadline=Deadline(HANG))
    store.delete_image("win10@2")
    assert edit(store).image == "win10@3"
    do_seal(store)


@pytest.mark.usefixtures("win10")
def test_who_opens_a_draft_while_it_is_sealed_stops_that(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = edit(store).path
    found = iter(["", "tgtd, process 7"])
    monkeypatch.setattr(
        "cuckoo_zfsiscsi.disk.store.file_images.opened_by", lambda _: next(found, "")
    )
    with pytest.raises(ImageError, match="tgtd, process 7 has it open"):
        do_seal(store)
    poke(path, 0)
    do_seal(store)


@pytest.mark.usefixtures("win10")
def test_drafts_have_numbers_of_their_own(store: FileStore) -> None:
    swap(store)
    draft = edit(store)
    assert draft.generation == 2
    store.close()
    store.open()
    assert store.disks("pc1")[-1] == draft
    assert swap(store).generation > draft.generation
    assert store.discard_retired("pc1", deadline=Deadline(HANG)) == 1
    assert draft.path.exists()


@pytest.mark.usefixtures("win10")
def test_what_was_imported_can_be_edited_before_it_is_sealed(
    store: FileStore, tmp_path: Path
) -> None:
    source = make_raw(tmp_path / "more")
    store.import_image("win10", source, deadline=Deadline(HANG), progress=silent)
    assert edit(store, "pc2").image == "win10@2"
    store.delete_image("win10@1")


@pytest.mark.usefixtures("win10")
def test_only_an_image_is_edited_not_a_version(store: FileStore) -> None:
    with pytest.raises(ImageError, match="a sealed one never changes"):
        edit(store, name="win10@1")
    with pytest.raises(ImageError, match="no image win7"):
        edit(store, name="win7")


def test_a_damaged_image_is_not_edited(store: FileStore, tmp_path: Path) -> None:
    seal(store, "win10", make_raw(tmp_path / "a"))
    path = store.path / "images/win10/1.raw"
    subprocess.run(["chattr", "-f", "-i", str(path)], check=False)
    poke(path, 100)
    before = files(store.path / "images")
    with pytest.raises(ImageError, match="is not what was sealed"):
        edit(store)
    assert files(store.path / "images") == before


def test_who_has_a_file_open(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.touch()
    assert opened_by(path) == ""
    with path.open("rb"):
        assert ", process " in opened_by(path)

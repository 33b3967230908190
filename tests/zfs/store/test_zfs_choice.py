from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.store import zfs_catalogue
from cuckoo_zfsiscsi.disk.store.zfs import ZfsStore
from cuckoo_zfsiscsi.disk.store.zfs_choice import Choice, look
from cuckoo_zfsiscsi.disk.store.zfs_disks import Clone
from cuckoo_zfsiscsi.errors import ImageError
from cuckoo_zfsiscsi.progress import silent
from tests.disk.content import seal, spare
from tests.waiting import HANG
from tests.zfs.device import write
from tests.zfs.zfs import zfs


def chosen(store: ZfsStore, image: str, *clones: Clone) -> Choice:
    return look(store.layout, store.zfs, image, clones, Deadline(HANG))()


def resolved(store: ZfsStore, image: str) -> tuple[str, int]:
    """Do as the catalogue, which reads everything."""
    name, version = zfs_catalogue.parse(image)
    folder, _ = zfs_catalogue.look(store.layout, store.zfs, name, [], Deadline(HANG))
    try:
        golden = folder.resolve(version)
    except ImageError:
        return "", 0
    return golden.image.ref, int(golden.image.digest, 16)


def test_it_is_what_the_catalogue_says(store: ZfsStore, source: Path) -> None:
    asked = ("win10", "win10@1", "win10@2", "win10@3", "win10@4", "win7")

    def agreed() -> list[str]:
        found = [chosen(store, image) for image in asked]
        assert [(one.ref, one.guid) for one in found] == [resolved(store, one) for one in asked]
        return [one.ref for one in found]

    assert agreed() == [""] * 6
    seal(store, "win10", source)
    seal(store, "win10", source)
    store.import_image("win10", source, deadline=Deadline(HANG), progress=silent)
    assert agreed() == ["win10@2", "win10@1", "win10@2", "", "", ""]
    store.rollback_image("win10@1")
    assert agreed() == ["win10@1", "win10@1", "win10@2", "", "", ""]
    store.delete_image("win10@1")  # what a name stands for may have gone
    assert agreed() == ["win10@2", "", "win10@2", "", "", ""]


@pytest.mark.usefixtures("win10")
def test_a_spare_is_untouched_until_something_was_done_to_it(store: ZfsStore) -> None:
    def written(clone: Clone) -> None:
        write(clone.path, 0)
        store.zfs.sync(deadline=Deadline(HANG))

    def released(clone: Clone) -> None:
        zfs("release", "zfsiscsi", clone.snapshot)

    def made_anew(clone: Clone) -> None:
        released(clone)
        zfs("destroy", clone.snapshot)
        zfs("snapshot", clone.snapshot)
        zfs("hold", "zfsiscsi", clone.snapshot)

    def gone(clone: Clone) -> None:
        released(clone)
        zfs("destroy", "-r", clone.dataset)

    deeds: list[Callable[[Clone], None]] = [written, released, made_anew, gone]
    for deed in deeds:
        disk = spare(store)
        clone = store._host("pc1").find(disk.generation)
        choice = chosen(store, "win10", clone)
        assert choice.is_of(clone)
        assert choice.is_untouched(clone)
        deed(clone)
        assert not chosen(store, "win10", clone).is_untouched(clone), deed.__name__
        store._host("pc1").change(clone, "dropped")

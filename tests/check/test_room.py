from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cuckoo_zfsiscsi.check import Finding
from cuckoo_zfsiscsi.check.room import check_room
from cuckoo_zfsiscsi.disk.drivers import make_store
from cuckoo_zfsiscsi.disk.store import Image, Space
from cuckoo_zfsiscsi.disk.store.zfs import ZfsStore
from cuckoo_zfsiscsi.disk.store.zfs_rooms import GIB, Occupied, Rooms
from cuckoo_zfsiscsi.errors import DiskError, ImageError
from tests.config.sample import edit, read

ZFS = ("[storage]", "[storage]\nstore = zfs\ntarget = lio\npool = tank")


class Files:
    """A store of files with so much room, whose images all have this size."""

    def __init__(self, free: int, size: int) -> None:
        self.free, self.size = free, size

    def space(self, **_: object) -> Space:
        return Space(self.free * 2, self.free)

    def find_image(self, ref: str) -> Image:
        if not self.size:
            raise ImageError(f"no image {ref}")
        return Image(ref, 1, self.size, sealed=True, digest="d", created=0.0)


def files(folder: Path, store: Any, *changes: tuple[str, str]) -> Finding:
    (found,) = check_room(read(folder, edit(*changes)), store)
    return found


def test_files_for_which_there_is_room(tmp_path: Path) -> None:
    assert files(tmp_path, Files(130 * GIB, 64 * GIB)).level == "info"  # nothing is promised
    promised = ("[storage]", "[storage]\nrun_gib = 64")
    one = files(tmp_path, Files(130 * GIB, 64 * GIB), promised)
    assert (one.level, one.where) == ("ok", "[storage] run_gib = 64")


def test_files_that_are_overcommitted(tmp_path: Path) -> None:
    one = files(tmp_path, Files(100 * GIB, 64 * GIB))
    assert one.level == "warning"
    assert "may end the runs of others" in one.what
    assert "store = zfs" in one.fix


def test_files_of_which_not_all_can_be_armed(tmp_path: Path) -> None:
    one = files(tmp_path, Files(100 * GIB, 64 * GIB), ("[storage]", "[storage]\nrun_gib = 64"))
    assert one.level == "error"
    assert "not all can be armed" in one.what


def test_one_host_needs_no_promise(tmp_path: Path) -> None:
    text = edit(("machines = pc1,pc2", "machines = pc1"))
    config = read(tmp_path, text[: text.index("[pc2]")])
    assert not list(check_room(config, Files(GIB, 64 * GIB)))  # type: ignore[arg-type]


def test_images_that_are_missing_are_said_elsewhere(tmp_path: Path) -> None:
    assert files(tmp_path, Files(100 * GIB, 0)).level == "ok"


@pytest.mark.parametrize(
    ("free", "change", "level", "said"),
    [
        (400 * GIB, ZFS, "ok", "whatever the others write"),
        (2 * GIB, ZFS, "error", "no host is armed"),
        (60 * GIB, (ZFS[0], f"{ZFS[1]}\nrun_gib = 40"), "warning", "may write 42.9 GB"),
    ],
)
def test_a_pool(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    free: int,
    change: tuple[str, str],
    level: str,
    said: str,
) -> None:
    there = Occupied(free * 5 // 4, free, largest=64 * GIB)
    monkeypatch.setattr(Rooms, "look", lambda *_, **__: there)
    config = read(tmp_path, edit(change))
    (one,) = check_room(config, make_store(config))
    assert (one.level, said in one.what) == (level, True), one


def test_a_pool_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> Occupied:
        raise DiskError("the pool is suspended")

    monkeypatch.setattr(Rooms, "look", fail)
    config = read(tmp_path, edit(ZFS))
    store = make_store(config)
    assert isinstance(store, ZfsStore)
    (one,) = check_room(config, store)
    assert (one.level, one.what, bool(one.fix)) == ("error", "the pool is suspended", True)

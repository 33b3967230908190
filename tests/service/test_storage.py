from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.config import load
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.store.file import FileStore
from cuckoo_zfsiscsi.errors import DiskError
from cuckoo_zfsiscsi.progress import silent
from cuckoo_zfsiscsi.service import storage
from cuckoo_zfsiscsi.service.storage import StorageLook
from tests.config.sample import EXAMPLE
from tests.service.fakes import FakeStore, World


def test_a_store_of_files(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "store", immutable=False)
    source = tmp_path / "win10.raw"
    source.write_bytes(b"x" * (1 << 20))
    store.open()
    store.import_image("win10", source, deadline=Deadline(10), progress=silent)
    store.seal("win10@1", deadline=Deadline(10), progress=silent)
    store.make_spare("pc1", "win10", deadline=Deadline(10), progress=silent)
    config = load(EXAMPLE).storage.model_copy(update={"path": store.path})
    report = StorageLook(config, store, ["pc1", "pc2"]).report()
    store.close()
    assert (report.store, report.place, report.problem) == ("file", str(store.path), "")
    assert report.space
    assert 0 < report.space.free < report.space.total
    assert [image.ref for image in report.images] == ["win10@1"]
    assert report.spares == {"pc1": 1, "pc2": 0}
    assert report.evidence == []


def test_one_look_is_for_all_who_ask(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    look = StorageLook(load(EXAMPLE).storage, FakeStore(world), ["pc1"])
    assert look.report() is look.report()
    assert world.journal == ["space", "kept"]
    monkeypatch.setattr(storage, "FRESH", 0.0)
    world.fail["kept"] = DiskError("the pool hangs", fix="zpool status")
    report = look.report()
    assert report.space is None
    assert report.problem == "the pool hangs (fix: zpool status)"


def test_a_pool_that_hangs_holds_up_one_thread_alone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = StorageLook(load(EXAMPLE).storage, FakeStore(world), ["pc1"])
    first = look.report()
    monkeypatch.setattr(storage, "FRESH", 0.0)
    hangs, goes_on = threading.Event(), threading.Event()

    def hang() -> None:
        hangs.set()
        goes_on.wait(10)

    world.before["space"] = hang
    one = threading.Thread(target=look.report)
    one.start()
    assert hangs.wait(5)
    begin = time.monotonic()
    assert look.report() is first
    assert time.monotonic() - begin < 5
    goes_on.set()
    one.join()
    assert look.report() is not first

from __future__ import annotations

from pathlib import Path

from cuckoo_zfsiscsi.config import load
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.store.file import FileStore
from cuckoo_zfsiscsi.errors import DiskError
from cuckoo_zfsiscsi.progress import silent
from cuckoo_zfsiscsi.service.storage import FRESH, TIMEOUT, StorageLook
from tests.clocks import VirtualClock
from tests.config.sample import EXAMPLE
from tests.service.fakes import FakeStore, World
from tests.waiting import HANG


def test_a_store_of_files(tmp_path: Path, clock: VirtualClock) -> None:
    store = FileStore(tmp_path / "store", immutable=False)
    source = tmp_path / "win10.raw"
    source.write_bytes(b"x" * (1 << 20))
    store.open()
    store.import_image("win10", source, deadline=Deadline(HANG), progress=silent)
    store.seal("win10@1", deadline=Deadline(HANG), progress=silent)
    store.make_spare("pc1", "win10", deadline=Deadline(HANG), progress=silent)
    config = load(EXAMPLE).storage.model_copy(update={"path": store.path})
    report = StorageLook(config, store, ["pc1", "pc2"], clock).report()
    store.close()
    assert (report.store, report.place, report.problem) == ("file", str(store.path), "")
    assert report.space
    assert 0 < report.space.free < report.space.total
    assert [image.ref for image in report.images] == ["win10@1"]
    assert report.spares == {"pc1": 1, "pc2": 0}
    assert report.evidence == []


def test_one_look_is_for_all_who_ask(world: World, clock: VirtualClock) -> None:
    look = StorageLook(load(EXAMPLE).storage, FakeStore(world), ["pc1"], clock)
    first = look.report()
    clock.sleep(FRESH)
    assert look.report() is first
    assert world.journal == ["space", "kept"]
    clock.sleep(1.0)
    world.fail["kept"] = DiskError("the pool hangs", fix="zpool status")
    report = look.report()
    assert report.space is None
    assert report.problem == "the pool hangs (fix: zpool status)"


def test_a_pool_that_hangs_holds_up_one_thread_alone(world: World, clock: VirtualClock) -> None:
    look = StorageLook(load(EXAMPLE).storage, FakeStore(world), ["pc1"], clock)
    first = look.report()
    clock.sleep(FRESH + 1.0)
    world.before["space"] = lambda: clock.sleep(TIMEOUT - 1.0)
    begin, one = clock.monotonic(), clock.call(look.report)
    clock.until(lambda: world.journal.count("space") == 2, "it hangs")
    assert look.report() is first
    assert clock.monotonic() == begin
    second = clock.result(one)
    assert clock.monotonic() - begin == TIMEOUT - 1.0
    assert second.problem == ""
    assert second is not first
    assert look.report() is second


def test_a_pool_that_hangs_for_too_long(world: World, clock: VirtualClock) -> None:
    look = StorageLook(load(EXAMPLE).storage, FakeStore(world), ["pc1"], clock)
    world.before["space"] = lambda: clock.sleep(TIMEOUT)
    assert look.report().problem.startswith("space took longer than 5.0 s")

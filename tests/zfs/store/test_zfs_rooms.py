"""A guest that writes without end fills its own room: real pools, small enough to be filled."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.store import Disk, zfs_device, zfs_rooms
from cuckoo_zfsiscsi.disk.store.server import Server
from cuckoo_zfsiscsi.disk.store.zfs import ZfsStore
from cuckoo_zfsiscsi.disk.store.zfs_rules import HostRules, Rules
from cuckoo_zfsiscsi.disk.store.zfs_setup import Setup
from cuckoo_zfsiscsi.errors import DiskError, StoreFullError
from tests.disk.content import make_raw, prove, seal, spare, swap
from tests.waiting import HANG, wait
from tests.zfs.device import MIB, write
from tests.zfs.store.conftest import Make
from tests.zfs.zfs import destroy_pool, get, names, zfs, zpool

SIZE = 256 * MIB
"""Of each disk: more than the pool has."""
POOL = 300 * MIB
"""ZFS keeps 128 MiB of it for itself."""

CHUNK = 2 * MIB

Open = Callable[..., ZfsStore]
Record = Callable[[str, object], None]


@pytest.fixture
def open_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    """Return a function that opens a store in a pool of POOL, with an image of SIZE."""
    monkeypatch.setattr(zfs_rooms, "LEAST", 16 * MIB)
    name = f"zr{os.getpid()}"
    stores: list[ZfsStore] = []

    def opened(*hosts: str, evidence: int = 0, **rules: int) -> ZfsStore:
        if stores:
            stores[-1].close()
        chosen = dict.fromkeys(hosts or ("pc1", "pc2"), HostRules(evidence=evidence))
        stores.append(ZfsStore(name, Rules(chosen, **rules)))
        stores[-1].open()
        return stores[-1]

    with tempfile.NamedTemporaryFile(dir="/tmp", prefix=name) as file:
        os.truncate(file.fileno(), POOL)
        zpool("create", "-o", "ashift=12", "-O", "mountpoint=none", name, file.name)
        try:
            first = ZfsStore(name)
            Setup(first.layout, first.zfs).init(take=False, deadline=Deadline(HANG))
            seal(first, "win10", make_raw(tmp_path / "raw", SIZE))
            yield opened
        finally:
            for store in stores:
                store.close()
            destroy_pool(name)


def arm(store: ZfsStore, host: str) -> Disk:
    disk = swap(store, host)
    prove(store, disk)
    store.taint(disk)
    return disk


def fill(disk: Disk, most: int = SIZE) -> int:
    """Write random data until it is refused, as a guest does; return how many bytes."""
    taken = 0
    while taken < most:
        try:
            write(disk.path, taken, os.urandom(CHUNK))
        except OSError:
            break
        taken += CHUNK
    return taken


def discard(store: ZfsStore, host: str) -> None:
    store.discard_retired(host, deadline=Deadline(HANG))


def run_of(store: ZfsStore) -> int:
    """Return the bytes that each run may write."""
    last = store.rooms.last
    assert last is not None
    return last.run


def test_a_guest_that_fills_its_disk_takes_nothing_from_a_sibling(
    open_store: Open, record_property: Record
) -> None:
    """A guest writes random data to its disk without end, while a sibling runs.

    Before: the pool was full, and the sibling's writes failed (ENOSPC).
    Now: the guest's own writes fail at its quota; the sibling writes all that it was promised.
    """
    store = open_store()
    hog, sibling = arm(store, "pc1"), arm(store, "pc2")
    run, space = run_of(store), store.space(deadline=Deadline(HANG))
    assert run > 20 * MIB
    taken = fill(hog)
    assert run // 2 < taken <= run
    promised = run * 9 // 10 // CHUNK * CHUNK  # the rest is metadata
    written = fill(sibling, promised)
    record_property("MiB a sibling could write of those promised", written / MIB)
    assert written == promised
    left = store.space(deadline=Deadline(HANG))
    assert left.free > space.total * store.rules.pool_free // 100


def test_the_next_run_of_the_same_host_has_its_room(open_store: Open) -> None:
    """A guest fills its room; the host's next run begins while that disk is still there.

    Before: there was no quota. With one that is not widened, the next run's first write fails.
    Now: it has its room beside it, and the room is as before when the disk is thrown away.
    """
    store = open_store()
    hog = arm(store, "pc1")
    run, folder = run_of(store), store.layout.host("pc1")
    assert int(get(folder, "quota")) == run
    fill(hog)
    store.zfs.sync(deadline=Deadline(HANG))
    disk = arm(store, "pc1")
    wait(lambda: int(get(folder, "quota")) == 2 * run, what="never: the quota is wider")
    much = run * 3 // 4 // CHUNK * CHUNK
    assert fill(disk, much) == much
    swap(store, "pc1")
    discard(store, "pc1")
    assert int(get(folder, "quota")) == run
    assert names(folder, "volume") == {"g3"}


def test_a_flood_costs_nobody_else_their_evidence(
    open_store: Open, record_property: Record
) -> None:
    """A guest fills its disk again and again, and each of these disks is kept as evidence.

    Before: for the room everyone's evidence was dropped, the oldest first; the attacker's stayed.
    Now: the oldest of the host that has most of it is dropped: the attacker's.
    """
    store = open_store(evidence=9, pool_free=50)
    write(arm(store, "pc2").path, 0, os.urandom(2 * MIB))
    swap(store, "pc2")
    discard(store, "pc2")
    for _ in range(6):
        fill(arm(store, "pc1"))
        swap(store, "pc1")
        discard(store, "pc1")
        assert spare(store, "pc1")
        assert spare(store, "pc2")
    kept = [one.name for one in store.evidence.all(deadline=Deadline(HANG))]
    record_property("evidence of others dropped", int("pc2-g1" not in kept))
    assert "pc2-g1" in kept
    assert "pc1-g1" not in kept


def test_a_pool_from_before_gets_rooms_and_what_is_in_them_stays(open_store: Open) -> None:
    store = open_store()
    disk = arm(store, "pc1")
    disks, folder = store.layout.disks, store.layout.host("pc1")
    zfs("set", "reservation=none", disks)
    zfs("set", "quota=none", folder)
    much = run_of(store) * 5 // 4 // CHUNK * CHUNK
    assert fill(disk, much) == much
    store.zfs.sync(deadline=Deadline(HANG))
    store = open_store()
    assert int(get(folder, "quota")) >= much
    assert int(get(disks, "reservation")) >= 4 * run_of(store)
    swap(store, "pc1")
    discard(store, "pc1")
    store = open_store()
    assert int(get(folder, "quota")) == run_of(store)


def test_a_pool_that_is_too_small_for_its_hosts_arms_none(open_store: Open) -> None:
    store = open_store()
    spare(store, "pc1")
    store = open_store(*(f"pc{number}" for number in range(1, 13)))
    with pytest.raises(StoreFullError, match=r"no room for a disk of pc1: .*each run") as caught:
        swap(store, "pc1")
    assert "have fewer hosts" in caught.value.fix
    store = open_store()
    swap(store, "pc1")


def test_more_than_there_is_can_be_allowed(open_store: Open) -> None:
    store = open_store()
    (division, sure) = (store.rooms.reckon(deadline=Deadline(HANG)), run_of(store))
    assert not division.is_overcommitted
    store.rules = replace(store.rules, run_gib=1)
    wide = ZfsStore(store.layout.place, store.rules)
    reckoned = wide.rooms.reckon(deadline=Deadline(HANG))
    assert reckoned.is_overcommitted
    assert reckoned.run == 1 << 30
    assert reckoned.sure <= sure


def test_an_image_gets_room_from_the_hosts(open_store: Open, tmp_path: Path) -> None:
    store = open_store()
    before = run_of(store)
    source = tmp_path / "other"
    source.write_bytes(os.urandom(40 * MIB))
    seal(store, "win11", source)
    assert run_of(store) < before - 5 * MIB
    source.write_bytes(os.urandom(200 * MIB))
    with pytest.raises(StoreFullError, match="no room for image huge"):
        seal(store, "huge", source)


# A new disk that someone writes to before it is looked at for the first time.


def at_first_sight(monkeypatch: pytest.MonkeyPatch, act: Callable[[Path], object]) -> None:
    """Have someone do something to each new volume as soon as it is there."""
    real = zfs_device.wait_for

    def acted(dataset: str, deadline: Deadline) -> Path:
        path = real(dataset, deadline)
        act(path)
        return path

    monkeypatch.setattr(zfs_device, "wait_for", acted)


@pytest.mark.usefixtures("win10")
def test_a_disk_that_is_written_before_its_first_count_is_not_used(
    store: ZfsStore, win10: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LVM, udev or a program on the server writes to a new volume as soon as it is there.

    Before: the first count was believed whatever it was, and the spare proven clean.
    Now: a first count that is not zero is refused, and the disk is dropped and made again.
    """
    infected: list[Path] = []

    def infect(path: Path) -> None:
        if not infected:
            infected.append(path)
            write(path, 64 * 1024)  # no block of the sample

    at_first_sight(monkeypatch, infect)
    with pytest.raises(DiskError, match="was written while it was made") as caught:
        spare(store)
    assert "zfsiscsi doctor" in caught.value.fix
    assert infected
    assert names(store.layout.disks, "volume") == set()
    disk = swap(store)
    prove(store, disk)
    assert disk.path.stat().st_rdev
    with disk.path.open("rb") as file:
        assert file.read() == win10


@pytest.mark.usefixtures("win10")
def test_a_disk_that_is_read_before_its_first_count_is_used(
    store: ZfsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(path: Path) -> None:
        with path.open("rb") as file:
            file.read(MIB)

    at_first_sight(monkeypatch, read)
    prove(store, spare(store))


@pytest.mark.usefixtures("win10")
def test_a_disk_whose_writes_are_not_counted_is_not_used(
    store: ZfsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_first_sight(
        monkeypatch,
        lambda path: Path(f"/sys/block/{path.name}/queue/iostats").write_text("0"),
    )
    with pytest.raises(DiskError, match="does not count the writes"):
        spare(store)
    assert names(store.layout.disks, "volume") == set()


# A clone of the server.

HERE = Server("5f3a", "store1", "uuid-1", frozenset({"52:54:00:00:00:01"}))


def test_a_clone_of_the_server_does_not_take_the_pool(make: Make) -> None:
    """A second server, copied from the same template, imports the pool of one that is still on.

    Before: its machine-id is the same, so it took the store as its own.
    Now: firmware and network cards tell it apart; it refuses, and says what to type.
    """
    first = make(server=HERE)
    first.open()
    handle, first._lease._handle = first._lease._handle, None  # as after a crash
    os.close(handle or -1)
    for clone in (replace(HERE, product="uuid-2"), replace(HERE, cards=frozenset({"other"}))):
        with pytest.raises(DiskError, match=r"a clone of this server.*store1") as caught:
            make(server=clone).open()
        assert caught.value.fix.endswith("--take")
    make(server=replace(HERE, name="renamed")).open()

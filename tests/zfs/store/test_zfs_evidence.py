"""Evidence in a pool: what one host floods, and what the time of day cannot drop."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.store import Disk, zfs_retention
from cuckoo_zfsiscsi.disk.store.zfs import ZfsStore
from cuckoo_zfsiscsi.disk.store.zfs_age import Uptime, uptime
from cuckoo_zfsiscsi.disk.store.zfs_call import Zfs
from cuckoo_zfsiscsi.disk.store.zfs_retention import DAY
from cuckoo_zfsiscsi.errors import DiskError, ImageError
from tests.disk.content import make_raw, seal, spare, swap
from tests.waiting import HANG
from tests.zfs.device import MIB, claimed, device_of, read, write
from tests.zfs.store.conftest import SIZE, Make
from tests.zfs.zfs import get, holds, names, zfs


@pytest.fixture
def keeper(make: Make, win10: bytes) -> ZfsStore:
    """Return a store that keeps two disks of each host, with an image."""
    store = make(evidence=2)
    store.open()
    return store


def infect(store: ZfsStore, host: str = "pc1", size: int = MIB) -> Disk:
    """Let a run dirty a host's disk; retire it."""
    disk = swap(store, host)
    store.taint(disk)
    write(disk.path, 0, os.urandom(size))
    swap(store, host)
    return disk


def discard(store: ZfsStore, host: str = "pc1") -> int:
    return store.discard_retired(host, deadline=Deadline(HANG))


def kept(store: ZfsStore) -> list[str]:
    return [one.name for one in store.evidence.all(deadline=Deadline(HANG))]


def test_a_dirty_disk_is_kept_and_a_clean_one_is_not(keeper: ZfsStore) -> None:
    dirty = infect(keeper)
    content = read(dirty.path)
    swap(keeper)  # the one before was not written
    begin = time.time()
    assert discard(keeper) == 1
    (one,) = keeper.evidence.all(deadline=Deadline(HANG))
    assert (one.name, one.host, one.generation, one.image) == ("pc1-g1", "pc1", 1, "win10@1")
    assert begin - 2 < one.kept < time.time() + 1
    assert MIB <= one.changed < 1.2 * MIB
    assert MIB <= one.used < 1.2 * MIB
    dataset = keeper.layout.kept("pc1", 1)
    assert one.dataset == dataset
    assert get(dataset, "readonly") == "on"
    assert get(dataset, "origin") == f"{keeper.layout.image('win10', 1)}@sealed"
    assert holds(f"{dataset}@evidence") == ["zfsiscsi"]
    assert names(keeper.layout.disks, "volume") == {"pc1/g3"}
    device = device_of(dataset)
    assert read(device) == content
    with pytest.raises(OSError, match=r"Read-only|not permitted"):
        write(device, 0)


def test_the_newest_are_kept(keeper: ZfsStore) -> None:
    for _ in range(3):
        infect(keeper)
        discard(keeper)
    assert kept(keeper) == ["pc1-g3", "pc1-g5"]
    infect(keeper, "pc2")
    discard(keeper, "pc2")
    assert kept(keeper) == ["pc1-g3", "pc1-g5", "pc2-g1"]


def test_an_image_stays_while_there_is_evidence_of_it(keeper: ZfsStore, tmp_path: Path) -> None:
    infect(keeper)
    seal(keeper, "win10", make_raw(tmp_path / "newer", SIZE))
    swap(keeper)
    discard(keeper)
    assert keeper.users("win10@1") == []
    with pytest.raises(ImageError, match="evidence was made from: pc1-g1") as caught:
        keeper.delete_image("win10@1")
    assert caught.value.fix == "zfsiscsi evidence delete pc1-g1"
    one = keeper.evidence.find("pc1-g1", deadline=Deadline(9))
    keeper.evidence.drop(one, deadline=Deadline(HANG))
    keeper.delete_image("win10@1")
    with pytest.raises(DiskError, match="there is no evidence pc1-g1"):
        keeper.evidence.find("pc1-g1", deadline=Deadline(9))


def up(keeper: ZfsStore, days: float, *, boot: str = "") -> None:
    """Let the server have been up for so many days more, maybe since another start."""
    now = uptime()
    later = Uptime(boot or now.boot, now.seconds + days * DAY)
    keeper.evidence._clock = lambda: later


def test_it_is_dropped_when_it_grows_old_or_too_much(
    keeper: ZfsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    infect(keeper)
    discard(keeper)
    up(keeper, 29)
    assert discard(keeper) == 0
    up(keeper, 31)
    assert discard(keeper) == 1
    assert kept(keeper) == []
    for _ in range(2):
        infect(keeper)
    monkeypatch.setattr(zfs_retention, "GIB", MIB * 3 // 200)  # 100 of them are 1.5 MiB
    discard(keeper)
    assert kept(keeper) == ["pc1-g5"]


@pytest.mark.parametrize("days", [-4000, 400])
def test_a_clock_that_is_set_drops_nothing_and_keeps_nothing_for_ever(
    keeper: ZfsStore, make: Make, monkeypatch: pytest.MonkeyPatch, days: int
) -> None:
    """The time of day jumps, by a year ahead or by eleven years back; NTP, or an attack on it.

    Before: a year ahead dropped all evidence at the next reset; kept in a wrong year, it stayed.
    Now: age is the time for which the server was up, by a clock that can't be set.
    """
    infect(keeper)
    discard(keeper)
    now = time.time()
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: now + days * DAY)
        assert discard(keeper) == 0
        infect(keeper)
        discard(keeper)
        assert kept(keeper) == ["pc1-g1", "pc1-g3"]
    keeper.close()
    again = make(evidence=2)
    again.open()
    up(again, 5, boot="another-start")  # of a server that was up for years, maybe
    assert discard(again) == 0
    up(again, 36, boot="another-start")
    assert discard(again) == 2


def test_what_an_earlier_version_kept_begins_to_grow_old(keeper: ZfsStore, make: Make) -> None:
    infect(keeper)
    discard(keeper)
    zfs("inherit", "zfsiscsi:since", keeper.layout.kept("pc1", 1))
    keeper.close()
    again = make(evidence=2)
    again.open()
    assert get(again.layout.kept("pc1", 1), "zfsiscsi:since") != "-"
    up(again, 31)
    assert discard(again) == 1


def test_evidence_whose_device_is_in_use_is_kept_a_little_longer(keeper: ZfsStore) -> None:
    infect(keeper)
    discard(keeper)
    one = keeper.evidence.find("pc1-g1", deadline=Deadline(9))
    with claimed(device_of(one.dataset)), pytest.raises(DiskError, match="is in use"):
        keeper.evidence.drop(one, deadline=Deadline(8))
    assert holds(f"{one.dataset}@evidence") == ["zfsiscsi"]
    keeper.evidence.tidy(deadline=Deadline(HANG))
    assert kept(keeper) == []


def test_an_exported_disk_is_not_made_evidence_until_it_is_let_go_of(keeper: ZfsStore) -> None:
    disk = infect(keeper)
    with claimed(disk.path):
        with pytest.raises(DiskError, match="is in use"):
            keeper.discard_retired("pc1", deadline=Deadline(8))
        assert "pc1/g1" in names(keeper.layout.disks)
    discard(keeper)
    assert kept(keeper) == ["pc1-g1"]


@pytest.mark.parametrize("step", ["snapshot", "hold", "changed", "rename"])
def test_a_crash_on_the_way_loses_nothing(
    keeper: ZfsStore, make: Make, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    content = read(infect(keeper).path)

    def fail(*_arguments: object, **_more: object) -> None:
        raise DiskError("the power failed")

    monkeypatch.setattr(Zfs, step, fail)
    with pytest.raises(DiskError, match="the power failed"):
        discard(keeper)
    monkeypatch.undo()
    keeper.close()
    again = make(evidence=2)
    again.open()
    discard(again)
    assert kept(again) == ["pc1-g1"]
    dataset = again.layout.kept("pc1", 1)
    assert read(device_of(dataset)) == content
    assert holds(f"{dataset}@evidence") == ["zfsiscsi"]


def test_numbers_of_evidence_are_not_used_again(keeper: ZfsStore, make: Make) -> None:
    infect(keeper)
    discard(keeper)
    zfs("set", "zfsiscsi:last=0", keeper.layout.host("pc1"))
    keeper.close()
    again = make(evidence=2)
    again.open()
    assert spare(again).generation == 3

from __future__ import annotations

import pytest

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.store.zfs_call import Zfs
from cuckoo_zfsiscsi.disk.store.zfs_layout import Layout
from cuckoo_zfsiscsi.disk.store.zfs_setup import Setup
from cuckoo_zfsiscsi.errors import DiskError
from tests.waiting import HANG
from tests.zfs.zfs import get, names, zfs

FOLDERS = {"images", "imports", "disks", "evidence"}


def init(place: str, *, take: bool = False) -> bool:
    layout = Layout(place)
    return Setup(layout, Zfs(layout.pool)).init(take=take, deadline=Deadline(HANG))


def test_makes_the_datasets_once(parent: str) -> None:
    assert init(parent)
    assert names(parent) == {"zfsiscsi"} | {f"zfsiscsi/{folder}" for folder in FOLDERS}
    for folder in FOLDERS:
        dataset = f"{parent}/zfsiscsi/{folder}"
        assert get(dataset, "volmode") == "dev"
        assert get(dataset, "compression") == "lz4"
        assert get(dataset, "mountpoint") == "none"
    assert get(f"{parent}/zfsiscsi/disks", "sync") == "disabled"
    assert get(f"{parent}/zfsiscsi/images", "sync") == "standard"
    assert get(f"{parent}/zfsiscsi/evidence", "readonly") == "on"
    assert not init(parent)


def test_sets_right_what_was_changed_and_makes_what_is_missing(parent: str) -> None:
    init(parent)
    zfs("set", "volmode=full", f"{parent}/zfsiscsi")
    zfs("destroy", f"{parent}/zfsiscsi/evidence")
    zfs("set", "canmount=on", parent)
    assert init(parent)
    assert get(f"{parent}/zfsiscsi", "volmode") == "dev"
    assert get(f"{parent}/zfsiscsi/evidence", "readonly") == "on"
    assert get(parent, "canmount") == "on"  # not ours


def test_what_it_did_not_make_is_left_alone(parent: str) -> None:
    zfs("create", "-o", "compression=off", f"{parent}/zfsiscsi")
    zfs("set", "zfsiscsi:role=store", parent)  # inherited: no mark
    with pytest.raises(DiskError, match="was not made by zfsiscsi storage init") as caught:
        init(parent)
    assert f"zfsiscsi storage init {parent}/lab" in caught.value.fix
    assert get(f"{parent}/zfsiscsi", "compression") == "off"
    assert names(parent) == {"zfsiscsi"}
    with pytest.raises(DiskError, match="was not made by"):
        Setup(Layout(parent), Zfs(Layout(parent).pool)).owner(deadline=Deadline(HANG))


def test_says_how_to_make_a_pool_or_dataset(parent: str) -> None:
    with pytest.raises(DiskError, match="there is no pool nopool") as caught:
        init("nopool")
    assert "zpool create -o ashift=12 nopool mirror" in caught.value.fix
    with pytest.raises(DiskError, match=f"there is no dataset {parent}/lab") as caught:
        init(f"{parent}/lab")
    assert caught.value.fix == f"zfs create {parent}/lab"


def test_takes_over_only_when_told_to(parent: str) -> None:
    init(parent)
    zfs("set", "zfsiscsi:owner=abc elsewhere", f"{parent}/zfsiscsi")
    layout = Layout(parent)
    setup = Setup(layout, Zfs(layout.pool))
    init(parent)
    assert setup.owner(deadline=Deadline(HANG)) == "abc elsewhere"
    init(parent, take=True)
    assert setup.owner(deadline=Deadline(HANG)) == ""

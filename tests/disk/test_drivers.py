"""What the configuration names is what is made."""

from __future__ import annotations

from pathlib import Path

from cuckoo_zfsiscsi.disk.drivers import make_store, make_target
from cuckoo_zfsiscsi.disk.store.file import FileStore
from cuckoo_zfsiscsi.disk.store.zfs import ZfsStore
from cuckoo_zfsiscsi.disk.target.lio import LioTarget
from cuckoo_zfsiscsi.disk.target.tgt import TgtTarget
from tests.config.sample import edit, read

ZFS = ("[netboot]", "store = zfs\npool = tank\ntarget = lio\n[netboot]")


def test_files(tmp_path: Path) -> None:
    config = read(tmp_path, edit())
    assert isinstance(make_store(config), FileStore)
    assert isinstance(make_target(config), TgtTarget)


def test_zfs_and_lio(tmp_path: Path) -> None:
    config = read(tmp_path, edit(ZFS))
    assert isinstance(make_store(config), ZfsStore)
    assert isinstance(make_target(config), LioTarget)

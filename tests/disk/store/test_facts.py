from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.disk.store.facts import Facts, protect, unprotect
from tests.disk.content import make_raw, poke


def test_show_every_write_even_when_the_modify_time_is_set_back(tmp_path: Path) -> None:
    path = make_raw(tmp_path / "a")
    before = Facts.settled(path)
    assert Facts.of(path) == before
    poke(path, 0, path.read_bytes()[:1])
    os.utime(path, ns=(before.mtime_ns, before.mtime_ns))
    after = Facts.of(path)
    assert (after.size, after.inode, after.mtime_ns) == (before.size, before.inode, before.mtime_ns)
    assert after.ctime_ns > before.ctime_ns


def test_reading_changes_nothing(tmp_path: Path) -> None:
    path = make_raw(tmp_path / "a")
    before = Facts.settled(path)
    path.read_bytes()
    with path.open("r+b"):
        pass
    assert Facts.of(path) == before


def test_protected_even_from_root(tmp_path: Path) -> None:
    path = make_raw(tmp_path / "a")
    protect(path, immutable=True)
    try:
        assert path.stat().st_mode & 0o777 == 0o400
        with pytest.raises(PermissionError):
            poke(path, 0)
        with pytest.raises(PermissionError):
            path.unlink()
    finally:
        unprotect(path)
    unprotect(path)
    path.unlink()
    unprotect(path)


def test_protects_as_far_as_the_file_system_can(tmp_path: Path) -> None:
    place = tmp_path / "ramfs"
    place.mkdir()
    subprocess.run(["mount", "-t", "ramfs", "ramfs", place], check=True)
    try:
        path = make_raw(place / "a")
        protect(path, immutable=True)
        assert path.stat().st_mode & 0o777 == 0o400
        path.unlink()
    finally:
        subprocess.run(["umount", place], check=True)

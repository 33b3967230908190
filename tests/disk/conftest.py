from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.store.facts import unprotect
from cuckoo_zfsiscsi.disk.store.file import FileStore
from cuckoo_zfsiscsi.disk.target.tgt import TgtTarget
from tests.disk.content import make_raw, make_target, seal
from tests.waiting import HANG

MIB = 1 << 20


@pytest.fixture
def deadline() -> Deadline:
    return Deadline(HANG)


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """Return a place for a store; nothing in it stays immutable."""
    path = tmp_path / "store"
    yield path
    for raw in path.glob("images/*/*.raw"):
        unprotect(raw)


@pytest.fixture
def store(root: Path) -> Iterator[FileStore]:
    store = FileStore(root)
    store.open()
    yield store
    store.close()


@pytest.fixture
def win10(store: FileStore, tmp_path: Path) -> Path:
    """Put a sealed image win10@1 into the store; return its source."""
    source = make_raw(tmp_path / "win10.raw")
    seal(store, "win10", source)
    return source


@contextmanager
def file_system(path: Path, mebibytes: int) -> Iterator[Path]:
    """Mount a small one at a path that is made."""
    path.mkdir()
    size = f"size={mebibytes}m"
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", path], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", path], check=True)


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    """Return a file system of 8 MiB."""
    with file_system(tmp_path / "tiny", 8) as path:
        yield path


@pytest.fixture(scope="session")
def btrfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a file system with reflinks, of 256 MiB."""
    base = tmp_path_factory.mktemp("btrfs")
    device, path = base / "device", base / "mounted"
    path.mkdir()
    device.touch()
    os.truncate(device, 256 * MIB)
    subprocess.run(["mkfs.btrfs", "-q", "-m", "single", device], check=True, capture_output=True)
    subprocess.run(["mount", "-o", "loop", device, path], check=True)
    yield path
    subprocess.run(["umount", path], check=True)
    device.unlink()


@pytest.fixture
def run_dir() -> Iterator[Path]:
    """Return a directory whose path is short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="zr") as name:
        yield Path(name) / "run"


@pytest.fixture
def target(run_dir: Path) -> Iterator[TgtTarget]:
    target = make_target(run_dir)
    target.open(deadline=Deadline(HANG))
    yield target
    target.close()

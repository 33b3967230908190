from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.store.server import Server
from cuckoo_zfsiscsi.disk.store.zfs import ZfsStore
from cuckoo_zfsiscsi.disk.store.zfs_layout import LAST
from cuckoo_zfsiscsi.disk.store.zfs_rules import HostRules, Rules
from cuckoo_zfsiscsi.disk.store.zfs_setup import Setup
from tests.disk.content import make_raw, seal
from tests.waiting import HANG
from tests.zfs.device import device_of
from tests.zfs.zfs import empty, get, zfs

SIZE = 4 << 20

Make = Callable[..., ZfsStore]


@pytest.fixture(scope="session")
def ready(pool: str) -> str:
    """Return a place that is made ready once: that takes longer than most tests."""
    place = f"{pool}/store"
    zfs("create", place)
    Setup(ZfsStore(place).layout, ZfsStore(place).zfs).init(take=False, deadline=Deadline(HANG))
    return place


@pytest.fixture
def place(ready: str) -> Iterator[str]:
    """Return a place that is ready and empty."""
    yield ready
    empty(ZfsStore(ready).layout.parent)


@pytest.fixture
def make(place: str) -> Iterator[Make]:
    """Return a function that makes another store in the same place."""
    made = []

    def make(*, server: Server | None = None, place: str = place, **rules: object) -> ZfsStore:
        host = {key: rules.pop(key) for key in ("spares", "evidence") if key in rules}
        hosts = {"pc1": HostRules(**host), "pc2": HostRules(**host)}  # type: ignore[arg-type]
        made.append(ZfsStore(place, Rules(hosts, **rules), server=server))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for store in made:
        store.close()


@pytest.fixture
def store(make: Make) -> ZfsStore:
    store = make()
    store.open()
    return store


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_raw(tmp_path / "win10.raw", SIZE)


@pytest.fixture(scope="session")
def golden(ready: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes, str]:
    """Return the content of an image, its sealed volume as a stream, and facts of its folder.

    To import and seal it once takes an emulated server as long as many of the tests.
    """
    source = make_raw(tmp_path_factory.mktemp("golden") / "win10.raw", SIZE)
    store = ZfsStore(ready)
    store.open()
    seal(store, "win10", source)
    store.close()
    dataset = store.layout.image("win10", 1)
    argv = ["zfs", "send", "-p", "-h", f"{dataset}@sealed"]
    stream = subprocess.run(argv, capture_output=True, check=True, timeout=HANG).stdout
    last = get(dataset.rpartition("/")[0], LAST)
    empty(store.layout.parent)
    return source.read_bytes(), stream, last


@pytest.fixture
def win10(golden: tuple[bytes, bytes, str], place: str) -> bytes:
    """Put a sealed image win10@1 into the place; return its content."""
    content, stream, last = golden
    store = ZfsStore(place)
    dataset = store.layout.image("win10", 1)
    folder = dataset.rpartition("/")[0]
    store.zfs.create_folder(folder, {LAST: last}, deadline=Deadline(HANG))
    subprocess.run(["zfs", "receive", dataset], input=stream, check=True, timeout=HANG)
    device_of(dataset)
    return content

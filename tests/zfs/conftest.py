"""Real pools, for tests that run inside the appliance. Elsewhere there is nothing to collect."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from itertools import count

import pytest

from cuckoo_zfsiscsi.deadline import Deadline
from tests.waiting import HANG
from tests.zfs.zfs import INSIDE, destroy, destroy_pool, zfs, zpool

if not INSIDE:
    collect_ignore_glob = ["*"]

_numbers = count(1)


@pytest.fixture
def deadline() -> Deadline:
    return Deadline(5 * HANG)  # of the test, set-up included, on a slow machine


@pytest.fixture(scope="session")
def pool() -> Iterator[str]:
    """Return a pool on the appliance's disk for pools, of this process alone."""
    name = f"zt{os.getpid()}"
    zpool("create", "-f", "-o", "ashift=12", "-O", "mountpoint=none", name, "/dev/vdb")
    yield name
    destroy_pool(name)


@pytest.fixture
def parent(pool: str) -> Iterator[str]:
    """Return a dataset of its own for each test; what the test left in it is destroyed."""
    name = f"{pool}/t{next(_numbers)}"
    zfs("create", name)
    yield name
    destroy(name)


@pytest.fixture
def small_pool() -> Iterator[str]:
    """Return a pool of 192 MiB, for one test alone: to be filled, suspended, exported."""
    name = f"zs{os.getpid()}x{next(_numbers)}"
    with tempfile.NamedTemporaryFile(dir="/tmp", prefix=name) as file:
        os.truncate(file.fileno(), 192 << 20)
        zpool("create", "-o", "ashift=12", "-O", "mountpoint=none", name, file.name)
        yield name
        destroy_pool(name)

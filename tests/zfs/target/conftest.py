"""The kernel's target with volumes of a real pool. It takes any block device: there is no store."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.disk.target.lio import LioTarget
from tests.zfs.target.lio import PORTS, MakeDisk, Volumes, make_target, opened
from tests.zfs.zfs import zfs

_numbers = count(1)


@pytest.fixture(scope="session")
def volumes(pool: str) -> Iterator[Volumes]:
    parent = f"{pool}/volumes"
    zfs("create", "-o", "volmode=dev", "-o", "sync=disabled", parent)
    yield Volumes(parent)
    zfs("destroy", "-r", parent)


@pytest.fixture
def make_disk(volumes: Volumes) -> Iterator[MakeDisk]:
    """Return what gives disks on volumes of 8 MiB, which later tests get again."""
    made = MakeDisk(volumes)
    yield made
    volumes.free += made.taken


@pytest.fixture
def device(volumes: Volumes) -> Iterator[Path]:
    found = volumes.take()
    yield found
    volumes.free.append(found)


@pytest.fixture
def port() -> int:
    """Return the first of some ports that are of this test alone."""
    return 3300 + PORTS * next(_numbers)


@pytest.fixture
def target(make_disk: MakeDisk, port: int) -> Iterator[LioTarget]:
    with opened(make_target(port)) as target:
        yield target

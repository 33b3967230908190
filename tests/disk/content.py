"""Disk files for tests, and short ways to common states."""

from __future__ import annotations

import os
from ipaddress import IPv4Address
from pathlib import Path

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.store import Disk, Image, Store
from cuckoo_zfsiscsi.disk.target.tgt import TgtTarget
from cuckoo_zfsiscsi.progress import silent
from tests.iscsi import free_port
from tests.waiting import HANG

MIB = 1 << 20


def make_raw(path: Path, size: int = 5 * MIB) -> Path:
    """Write a disk file: data at both ends, a hole between them."""
    with path.open("wb") as file:
        file.write(os.urandom(min(MIB, size)))
        file.seek(max(0, size - 65536))
        file.write(os.urandom(min(65536, size)))
    return path


def seal(store: Store, name: str, source: Path) -> Image:
    image = store.import_image(name, source, deadline=Deadline(HANG), progress=silent)
    return store.seal(image.ref, deadline=Deadline(HANG), progress=silent)


def spare(store: Store, host: str = "pc1", image: str = "win10") -> Disk:
    return store.make_spare(host, image, deadline=Deadline(HANG), progress=silent)


def swap(store: Store, host: str = "pc1", image: str = "win10") -> Disk:
    return store.begin_swap(host, image, deadline=Deadline(HANG))()


def prove(store: Store, disk: Disk) -> None:
    store.prove(disk, deadline=Deadline(HANG))


def poke(path: Path, offset: int, data: bytes = b"infected") -> None:
    """Write into a file, as a guest does."""
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def files(path: Path) -> set[str]:
    """Return every file below a directory, by its relative path."""
    return {str(found.relative_to(path)) for found in path.rglob("*") if found.is_file()}


def make_target(run_dir: Path, port: int = 0) -> TgtTarget:
    """Return a target on 127.0.0.1, on a free port by default; pc2 has another."""
    port = port or free_port()
    return TgtTarget(
        portal=IPv4Address("127.0.0.1"),
        port=port,
        ports={"pc1": port, "pc2": free_port()},
        iqn="iqn.2017-10.test.disk",
        run_dir=run_dir,
    )

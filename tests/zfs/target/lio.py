"""Short ways to a target of the kernel, its exports, and what configfs says of them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from ipaddress import IPv4Address
from pathlib import Path

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.store import Disk
from cuckoo_zfsiscsi.disk.target import Credentials, Export
from cuckoo_zfsiscsi.disk.target.identity import Identity
from cuckoo_zfsiscsi.disk.target.lio import LioTarget
from cuckoo_zfsiscsi.disk.target.lio_kernel import CORE, ISCSI, entries
from tests.waiting import HANG, wait
from tests.zfs.device import device_of, read, write
from tests.zfs.zfs import zfs

IQN = "iqn.2017-10.test.lio"
SECRET = "aB3456789012345"
PORTS = 16
"""That a target of these tests may have."""


class Volumes:
    """Volumes of 8 MiB below a dataset, in use and free."""

    def __init__(self, parent: str) -> None:
        self.parent = parent
        self.free: list[Path] = []
        self._last = 0

    def take(self) -> Path:
        """Return the device of a volume that nobody uses, with random data at its start."""
        device = self.free.pop() if self.free else self.make()
        write(device, 0, os.urandom(65536))
        return device

    def make(self, mib: int = 8) -> Path:
        """Return the device of a new volume, empty."""
        self._last += 1
        name = f"{self.parent}/{self._last}"
        zfs("create", "-s", "-V", f"{mib}M", "-b", "16k", name)
        return device_of(name)


class MakeDisk:
    """Gives disks; those of one host follow each other."""

    def __init__(self, volumes: Volumes) -> None:
        self._volumes = volumes
        self.taken: list[Path] = []

    def __call__(self, host: str = "pc1", generation: int = 1) -> Disk:
        self.taken.append(self._volumes.take())
        return Disk(host, generation, "win10@1", self.taken[-1], "current")


def make_target(
    port: int,
    *,
    iqn: str = IQN,
    identities: Mapping[str, Identity] | None = None,
    portals: Mapping[str, IPv4Address] | None = None,
) -> LioTarget:
    """Return a target whose hosts pc1, pc2, ... have the ports from the next one on."""
    return LioTarget(
        portal=IPv4Address("127.0.0.1"),
        port=port,
        iqn=iqn,
        identities=identities,
        portals=portals,
        ports={f"pc{number}": port + number for number in range(1, PORTS)},
    )


@contextmanager
def opened(target: LioTarget) -> Iterator[LioTarget]:
    target.open(deadline=Deadline(HANG))
    try:
        yield target
    finally:
        target.close()
        assert left(target._iqn) == []


def export(target: LioTarget, disk: Disk, number: int = 0) -> Export:
    user = f"{disk.host}.g{disk.generation}"
    who = Credentials(target.initiator(disk), user, f"{SECRET}{number}")
    return target.export(disk, who, deadline=Deadline(HANG))


def fence(target: LioTarget, host: str = "pc1") -> None:
    target.fence(host, deadline=Deadline(HANG))


def wait_for_logout(target: LioTarget, host: str = "pc1") -> None:
    """Wait until nobody is logged in: the answer to a logout comes before its end."""
    wait(
        lambda: not target.sessions(host),
        what="never: the session's end",
        seen=lambda: target.sessions(host),
    )


def prepare(target: LioTarget, disk: Disk) -> None:
    target.prepare(disk, deadline=Deadline(HANG))


def release(target: LioTarget, *keep: Disk, host: str = "pc1") -> None:
    target.release(host, keep, deadline=Deadline(HANG))


def group(host: str = "pc1", iqn: str = IQN) -> Path:
    """Return where configfs has a host's portal group."""
    return ISCSI / f"{iqn}:{host}" / "tpgt_1"


def backstores(host: str = "pc1") -> list[Path]:
    """Return where configfs has a host's disks."""
    name = f"zfsiscsi-{host}-"
    return [path for hba in entries(CORE, "iblock_") for path in entries(hba, name)]


def backstore(disk: Disk) -> Path:
    (found,) = [path for path in backstores(disk.host) if path.name.endswith(f"-{disk.path.name}")]
    return found


def left(iqn: str = IQN) -> list[Path]:
    """Return what there is in configfs of a target's."""
    hbas = [*backstores(""), *(hba for hba in entries(CORE, "iblock_") if not entries(hba))]
    return [path for path in entries(ISCSI) if path.name.startswith(f"{iqn}:")] + hbas


def first_block(disk: Disk) -> bytes:
    """Read what is on the device, past the page cache, which knows nothing of the target."""
    return read(disk.path, length=4096)[:512]

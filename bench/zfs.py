"""What the ZFS benches share: a pool of their own on /dev/vdb, hosts, and how they are reset."""

from __future__ import annotations

import contextlib
import mmap
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.iscsi import Initiator
from tests.zfs.rig import IMAGE, MIB, Rig, command, opened, write_conf
from tests.zfs.zfs import INSIDE, destroy_pool

POOL = "bench"
DISK = "/dev/vdb"
BLOCK = mmap.mmap(-1, MIB)  # on a page of its own: O_DIRECT asks for that
BLOCK.write(os.urandom(MIB))


@contextlib.contextmanager
def rig(
    hosts: list[str], mode: str | Mapping[str, str], *, size: int, data: int = 32
) -> Iterator[Rig]:
    """Make a pool with an image (MiB: its size, its data), and open store and target.

    The process gets the priority that the service has (deploy/zfsiscsi.service).

    Raises:
        SystemExit: this is not the appliance. Another machine may have something on that disk.
    """
    if not INSIDE:
        raise SystemExit(
            f"this overwrites {DISK}, so it runs in the appliance only:\n"
            "  python -m cuckoo_zfsiscsi.lab.appliance -- python3 -m bench..."
        )
    os.setpriority(os.PRIO_PROCESS, 0, -20)
    with tempfile.TemporaryDirectory(prefix="zfs-bench") as name:
        folder = Path(name)
        image = folder / "golden.raw"
        with image.open("wb") as file:
            for _ in range(data):
                file.write(os.urandom(MIB))
            file.truncate(size * MIB)
        pool = ["zpool", "create", "-f", "-o", "ashift=12", "-o", "cachefile=none", "-m", "none"]
        subprocess.run([*pool, POOL, DISK], check=True)
        try:
            conf = write_conf(folder, pool=POOL, hosts=hosts, mode=mode)
            command(conf, "storage", "init", POOL)
            command(conf, "image", "import", IMAGE, str(image))
            with opened(conf) as found:
                yield found
        finally:
            destroy_pool(POOL)


def round_trip(one: Rig, host: str, dirty: int, *, synced: bool) -> dict[str, float]:
    """Boot a guest, let it write so many MiB, reset and arm; return seconds per step.

    The guest's session is up all the while; what it writes is written on the server itself, below
    iSCSI and past the page cache as iSCSI does: the emulated network would take most of the time,
    and leave nothing "just written".
    """
    export = one.boot(host)
    one.tidy(host)
    subprocess.run(["zpool", "sync", POOL], check=True)  # nothing of the last one is left
    current = next(disk for disk in one.store.disks(host) if disk.role == "current")
    with Initiator(export) as guest:
        guest.read(0)
        device = os.open(current.path, os.O_WRONLY | os.O_DIRECT)
        try:
            for number in range(dirty):
                os.pwrite(device, BLOCK, number * MIB)
        finally:
            os.close(device)
        if synced:
            subprocess.run(["zpool", "sync", POOL], check=True)
        begin = time.monotonic()
        done = one.reset(host)
        proven = time.monotonic()
        one.arm(done.disk)
        end = time.monotonic()
    change = done.seconds.get("swap", done.seconds.get("rollback", 0.0))
    seconds = {"fence": done.seconds["fence"], "change": change, "prove": done.seconds["prove"]}
    return {**seconds, "arm": end - proven, "critical": end - begin}


def resident_mib() -> float:
    """Return the memory of this process (proc(5), VmRSS)."""
    return _mib("/proc/self/status", "VmRSS:")


def available_mib() -> float:
    """Return the memory that can still be had (proc(5), MemAvailable)."""
    return _mib("/proc/meminfo", "MemAvailable:")


def _mib(table: str, name: str) -> float:
    for line in Path(table).read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) / 1024
    return 0.0

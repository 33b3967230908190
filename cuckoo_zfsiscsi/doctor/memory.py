"""Memory, and how much of it ZFS may take for its cache, the ARC."""

from __future__ import annotations

from collections.abc import Iterator

from cuckoo_zfsiscsi.check import Finding
from cuckoo_zfsiscsi.config import Config
from cuckoo_zfsiscsi.doctor.system import System

ARC = "/proc/spl/kstat/zfs/arcstats"
LEAST = 4e9
"""Bytes of memory below which a storage server is short of it."""
LEAST_ARC = 1e9
REST = 2e9
"""Bytes that everything but the ARC needs: kernel, service, 64 hosts' connections."""


def check_memory(config: Config, system: System) -> Iterator[Finding]:
    """Look at both."""
    total = _meminfo("MemTotal", system)
    if total < LEAST * 0.9:  # what firmware and kernel keep for themselves is not in it
        what = f"{total / 1e9:.1f} GB in all: little for a storage server"
        yield Finding("warning", "memory", what, "give it 8 GB or more; docs/storage.rst, ARC")
    else:
        yield Finding("ok", "memory", f"{total / 1e9:.1f} GB in all")
    if config.storage.store == "zfs" and (limit := _arc_limit(system)):
        yield _arc(limit, total)


def _arc(limit: int, total: int) -> Finding:
    where, what = "ARC", f"may take {limit / 1e9:.1f} GB of {total / 1e9:.1f} GB"
    best = int(max(total * 0.75, LEAST_ARC))
    fix = (
        f"echo options zfs zfs_arc_max={best} > /etc/modprobe.d/zfs.conf; "
        f"echo {best} > /sys/module/zfs/parameters/zfs_arc_max"
    )
    if limit < LEAST_ARC <= total / 2:
        return Finding("warning", where, f"{what}: every boot reads the image from the disks", fix)
    if limit > total - REST and total > 2 * REST:
        # It gives memory back when asked, but not at once.
        return Finding("info", where, f"{what}, which leaves little for the rest", fix)
    return Finding("ok", where, what)


def _meminfo(name: str, system: System) -> int:
    for line in (system.read("/proc/meminfo") or "").splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return int(value.split()[0]) * 1024
    return 0


def _arc_limit(system: System) -> int | None:
    for line in (system.read(ARC) or "").splitlines():
        words = line.split()
        if words[:1] == ["c_max"]:
            return int(words[2])
    return None

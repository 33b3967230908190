"""The pool: whether it is there and well, and has room."""

from __future__ import annotations

from collections.abc import Iterator

from cuckoo_zfsiscsi.check import Finding
from cuckoo_zfsiscsi.config import Config
from cuckoo_zfsiscsi.disk.store.zfs_layout import Layout
from cuckoo_zfsiscsi.doctor.system import System

PROPERTIES = "health,fragmentation,readonly,multihost,cachefile"
SOON = 10
"""Percent above pool_free at which it is time to warn."""
FRAGMENTED = 60
"""Percent of fragmentation of free space from which writes become slow."""


def check_pool(config: Config, system: System) -> Iterator[Finding]:
    """Look at all of it, if it is imported."""
    place = config.storage.pool or ""
    layout = Layout(place)
    pool = layout.pool
    where = f"[storage] pool = {place}"
    answer = system.run(["zpool", "get", "-Hp", "-o", "property,value", PROPERTIES, pool])
    if answer is None:
        yield Finding("error", where, "zpool is not installed", "apt install zfsutils-linux")
        return
    if answer.code:
        fix = f"zpool import shows what can be imported; zpool import {pool}"
        yield Finding("error", where, answer.reason.rstrip("."), fix)
        return
    found = answer.pairs("\t")
    yield from _health(pool, found)
    if found["health"] != "SUSPENDED":  # all that follows would stand still as well
        yield from _errors(pool, system)
        yield from _space(layout, config.storage.pool_free, system)
        yield from _fragments(pool, found)
    yield from _owner(pool, found, system)


def _health(pool: str, found: dict[str, str]) -> Iterator[Finding]:
    where, health = f"pool {pool}", found["health"]
    if health == "ONLINE":
        yield Finding("ok", where, "is ONLINE")
    elif health == "DEGRADED":
        what = "is DEGRADED: one more lost disk may lose everything"
        yield Finding("warning", where, what, f"zpool status {pool}; zpool replace {pool} OLD NEW")
    elif health == "SUSPENDED":
        what = "is SUSPENDED: its disks do not answer, and every write stands still"
        yield Finding("error", where, what, f"bring the disks back, then zpool clear {pool}")
    else:
        yield Finding("error", where, f"is {health}", f"zpool status {pool}")
    if found.get("readonly") == "on":
        fix = f"zpool export {pool} && zpool import {pool}"
        yield Finding("error", where, "is imported read-only", fix)


def _errors(pool: str, system: System) -> Iterator[Finding]:
    status = system.run(["zpool", "status", pool])
    errors = status.pairs(":").get("errors", "") if status else ""
    if errors not in ("", "No known data errors"):
        fix = f"zpool status -v {pool} names what is damaged"
        yield Finding("error", f"pool {pool}", f"lost data: {errors}", fix)


def _space(layout: Layout, pool_free: int, system: System) -> Iterator[Finding]:
    """Reckon as the store does, see zfs_space."""
    argv = ["zfs", "get", "-Hp", "-o", "value", "used,available", layout.pool, layout.parent]
    answer = system.run(argv)  # of the pool alone while there is no store
    numbers = [int(word) for word in answer.out.split()] if answer else []
    if len(numbers) < 2:
        return
    total, free = sum(numbers[:2]), min(numbers[1::2]) + _unspent(layout, system)
    percent = 100 * free / max(total, 1)
    what = f"{free / 1e9:.0f} GB of {total / 1e9:.0f} GB are free, {percent:.0f} %"
    where = f"[storage] pool_free = {pool_free}"
    fix = f"zfsiscsi storage show; zfsiscsi image list; zfs list -o space -r {layout.pool}"
    if percent < pool_free:
        what += ": evidence is dropped now, and no image can be imported"
        yield Finding("error", where, what, fix)
    elif percent < pool_free + SOON:
        yield Finding("warning", where, f"{what}: soon evidence is dropped", fix)
    else:
        yield Finding("ok", where, what)


def _unspent(layout: Layout, system: System) -> int:
    """Return what is reserved for the hosts' disks and not taken: it is free as well."""
    answer = system.run(["zfs", "get", "-Hp", "-o", "value", "used,reservation", layout.disks])
    words = answer.out.split() if answer else []
    if len(words) < 2 or not (words[0].isdigit() and words[1].isdigit()):
        return 0
    return max(0, int(words[1]) - int(words[0]))


def _fragments(pool: str, found: dict[str, str]) -> Iterator[Finding]:
    fragmented = found.get("fragmentation", "").rstrip("%")
    if fragmented.isdigit() and int(fragmented) > FRAGMENTED:
        what = f"{fragmented} % of the free space is in small pieces: writes become slow"
        yield Finding("warning", f"pool {pool}", what, "keep more free: pool_free in [storage]")


def _owner(pool: str, found: dict[str, str], system: System) -> Iterator[Finding]:
    """Look for what keeps a second server that sees the same disks from importing the pool."""
    where = f"pool {pool}"
    has_hostid = system.exists("/etc/hostid")
    if found.get("multihost") == "on":
        if has_hostid:
            yield Finding("ok", where, "multihost is on: no second server can import it by mistake")
        else:
            what = "multihost is on, but this server's hostid may change at its next start"
            yield Finding("error", where, what, "zgenhostid")
    else:
        fix = f"{'' if has_hostid else 'zgenhostid; '}zpool set multihost=on {pool}"
        what = "multihost is off: fine while no other server can see its disks"
        yield Finding("info", where, what, fix)
    if found.get("cachefile") == "none":
        what = "has cachefile=none: it is not imported when this server starts"
        yield Finding("warning", where, what, f"zpool set cachefile=/etc/zfs/zpool.cache {pool}")

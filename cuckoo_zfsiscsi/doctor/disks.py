"""The disks below the pool: whether its sector size and its discards fit them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from math import log2
from pathlib import PurePath

from cuckoo_zfsiscsi.check import Finding
from cuckoo_zfsiscsi.config import Config
from cuckoo_zfsiscsi.disk.store.zfs_layout import Layout
from cuckoo_zfsiscsi.doctor.system import System

BLOCK_CLASS = "/sys/class/block"


def check_disks(config: Config, system: System) -> Iterator[Finding]:
    """Look at ashift and autotrim of a pool, if it is imported."""
    pool = Layout(config.storage.pool or "").pool
    listing = system.run(["zpool", "list", "-HPLv", "-o", "name", pool])
    if listing is None or listing.code:
        return  # the check of the pool says so
    disks = [name for name in map(_kernel_name, re.findall(r"^\s+(/\S+)", listing.out, re.M))
             if system.exists(f"{BLOCK_CLASS}/{name}")]  # fmt: skip
    yield from _ashift(pool, disks, system)
    yield from _autotrim(pool, disks, system)


def _ashift(pool: str, disks: list[str], system: System) -> Iterator[Finding]:
    where = f"ashift of pool {pool}"
    # Without a name zdb reads the cache file alone; with one it opens the pool, which takes long.
    answer = system.run(["zdb", "-C"])
    shifts = parse_ashifts(answer.out if answer else "", pool)
    if not shifts:
        what = "zdb does not say: the pool is in no cache file"
        yield Finding("info", where, what, f"zpool set cachefile=/etc/zfs/zpool.cache {pool}")
        return
    smallest = min(shifts)
    sectors = {name: _queue(name, "physical_block_size", system) or 512 for name in disks}
    needed = max((int(log2(size)) for size in sectors.values()), default=9)
    if smallest < needed:
        what = f"is {smallest}, but a disk has sectors of {1 << needed} bytes: writes are slow"
        fix = f"it can't be changed: make the pool anew with -o ashift={max(needed, 12)}"
        yield Finding("warning", where, what, fix)
    elif smallest < 12:
        what = f"is {smallest}: no disk with 4 KiB sectors can ever replace one"
        yield Finding("info", where, what, "make the next pool with -o ashift=12")
    else:
        yield Finding("ok", where, f"is {smallest}")


def parse_ashifts(text: str, pool: str) -> list[int]:
    """Return what `zdb -C` says of the vdevs of one pool: each begins with its name at column 0."""
    found, inside = [], False
    for line in text.splitlines():
        if not line[:1].isspace():
            inside = line.rstrip() == f"{pool}:"
        elif inside and (shift := re.match(r"\s+ashift: (\d+)", line)):
            found.append(int(shift[1]))
    return found


def _autotrim(pool: str, disks: list[str], system: System) -> Iterator[Finding]:
    trimmed = [name for name in disks if _queue(name, "discard_max_bytes", system)]
    if not trimmed:
        return
    where = f"autotrim of pool {pool}"
    answer = system.run(["zpool", "get", "-Hp", "-o", "value", "autotrim", pool])
    if answer is not None and answer.out.strip() == "off":
        what = f"is off, and every reset leaves garbage on the SSDs ({', '.join(trimmed)})"
        yield Finding("warning", where, what, f"zpool set autotrim=on {pool}; zpool trim {pool}")
    else:
        yield Finding("ok", where, f"is on, for {', '.join(trimmed)}")


def _kernel_name(path: str) -> str:
    return PurePath(path).name


def _queue(name: str, key: str, system: System) -> int | None:
    """Return a number of a disk's queue; a partition has that of its disk, sysfs-block."""
    own = system.path(f"{BLOCK_CLASS}/{name}").resolve()
    folder = own if (own / "queue").is_dir() else own.parent
    try:
        return int((folder / "queue" / key).read_text())
    except (OSError, ValueError):
        return None

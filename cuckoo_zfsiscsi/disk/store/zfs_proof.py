"""Proves that a disk still is what its image is: by ZFS, by the kernel's counts, by a sample."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.bounded import bounded
from cuckoo_zfsiscsi.disk.store import zfs_device
from cuckoo_zfsiscsi.disk.store.zfs_call import Zfs
from cuckoo_zfsiscsi.disk.store.zfs_catalogue import unsigned
from cuckoo_zfsiscsi.disk.store.zfs_disks import Clone
from cuckoo_zfsiscsi.disk.store.zfs_layout import TAKEN

_STATE = f"""
local argv = ...
argv = argv["argv"]
local all = {{}}
for i = 1, #argv do
    local dataset = argv[i]
    if zfs.exists(dataset) then
        local found, base = {{}}, dataset .. "@{TAKEN}"
        local origin = zfs.get_prop(dataset, "origin")
        if origin then found.origin = zfs.get_prop(origin, "guid") end
        if zfs.exists(base) then
            found.base = zfs.get_prop(base, "guid")
            found.holds = zfs.get_prop(base, "userrefs")
            found.written = zfs.get_prop(dataset, "written@{TAKEN}")
        end
        all[dataset] = found
    end
end
return all
"""


@dataclass(frozen=True, slots=True)
class State:
    """What ZFS knows of a disk, without waiting for what is being written."""

    origin: int = 0
    """guid of the snapshot that it is a clone of."""
    base: int = 0
    """guid of its @base."""
    held: bool = False
    """@base is held."""
    written: int = -1
    """Bytes since @base, as of the last transaction group; -1 when it can't be told."""

    def flaw(self, clone: Clone) -> str:
        """Return why the disk is not proven by this, or ""."""
        if self.origin != clone.origin:
            return f"it is not a clone of {clone.image} as it was sealed"
        if not self.base or self.base != clone.base:
            return "its snapshot @base is not the one that was made with it"
        if not self.held:
            return "its snapshot @base is not held"
        if self.written:
            return f"{self.written} bytes were written since it was made"
        return ""


def read_states(zfs: Zfs, datasets: Sequence[str], *, deadline: Deadline) -> dict[str, State]:
    """Return the states of those disks that are there."""
    call = functools.partial(_read, zfs, datasets)
    return bounded(call, f"reading from the pool {zfs.pool}", deadline) if datasets else {}


def _read(zfs: Zfs, datasets: Sequence[str]) -> dict[str, State]:
    found = zfs.read_unbounded(_STATE, datasets)
    return {dataset: _state(facts) for dataset, facts in found.items()}


def _state(facts: dict[str, Any]) -> State:
    return State(
        unsigned(facts.get("origin", 0)),
        unsigned(facts.get("base", 0)),
        bool(facts.get("holds")),
        facts.get("written", -1),
    )


def prove(zfs: Zfs, clone: Clone, *, deadline: Deadline) -> str:
    """Return why a disk is not proven clean, or "".

    `written@base` lags behind by a transaction group, and a sync would wait for other guests'
    writes. What it does not show yet, the counts of the block device show: since they were read,
    and a sync followed, nothing was submitted. A disk that was proven once is proven again by its
    counts alone, in less than a millisecond.

    Raises:
        OSError: the device can't be read.
        DiskError: ZFS does not answer, or the kernel does not count.
        DeadlineExceededError, CancelledError: not done.
    """
    if clone.tainted:
        return "it was armed before"
    if clone.clean is None:
        return "nobody knows whether it was written"
    if clone.proven is not None and zfs_device.count_writes(clone.path) == clone.proven:
        return ""
    what = f"proving generation {clone.generation} of {clone.host}"
    return bounded(functools.partial(_examine, zfs, clone), what, deadline)


def _examine(zfs: Zfs, clone: Clone) -> str:
    clone.proven = None
    before = zfs_device.count_writes(clone.path)
    if before.pending or before != clone.clean:
        return "its device was written since it was made"
    state = _read(zfs, [clone.dataset]).get(clone.dataset)
    if state is None:
        return f"{clone.dataset} is gone"
    if flaw := state.flaw(clone):
        return flaw
    if zfs_device.dataset_of(clone.path) != clone.dataset:
        return f"{clone.path} is the device of something else"
    if zfs_device.sample(clone.path) != clone.sample:
        return f"disk and image {clone.image} differ"
    after = zfs_device.count_writes(clone.path)
    if after != before:
        return "its device was written while it was looked at"
    clone.proven = after
    return ""

"""Destroys one volume with its snapshots, never one that someone has, never what depends on it."""

from __future__ import annotations

import contextlib
import errno
import functools
import logging
from collections.abc import Iterator
from typing import Any

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.bounded import bounded
from cuckoo_zfsiscsi.disk.store import zfs_device
from cuckoo_zfsiscsi.disk.store.zfs_call import Zfs
from cuckoo_zfsiscsi.disk.store.zfs_error import ZfsError, ignoring
from cuckoo_zfsiscsi.disk.store.zfs_layout import HOLD
from cuckoo_zfsiscsi.errors import DeadlineExceededError, DiskError

log = logging.getLogger(__name__)

LOOK = 2.0
"""Seconds for one thing that a crash left."""
_RETRY = 0.1
"""Seconds between attempts: udev may be looking at the device."""

_SNAPSHOTS = """
local argv = ...
argv = argv["argv"]
local found = {}
if not zfs.exists(argv[1]) then return found end
for snapshot in zfs.list.snapshots(argv[1]) do
    local holds, clones = {}, {}
    for tag in zfs.list.holds(snapshot) do holds[tag] = true end
    for clone in zfs.list.clones(snapshot) do clones[clone] = true end
    found[snapshot] = {holds = holds, clones = clones}
end
return found
"""


def drop(zfs: Zfs, dataset: str, *, deadline: Deadline) -> None:
    """Destroy a volume and its snapshots; nothing if it is gone.

    ZFS alone would destroy the snapshots of an exported volume first, and refuse the volume then.
    So we claim the device before we touch anything. Never recursive: what holds or depends on it
    is named instead.

    Raises:
        DiskError: someone has the device, holds a snapshot, or made a clone of one.
        DeadlineExceededError, CancelledError: not done; what is left can be dropped later.
    """
    snapshots: dict[str, Any] = zfs.read(_SNAPSHOTS, [dataset], deadline=deadline)
    for name, found in snapshots.items():
        _check(name, found["holds"], found["clones"])
    is_busy = False
    try:
        while not _destroy(zfs, dataset, list(snapshots), deadline):
            is_busy = True
            deadline.sleep(_RETRY, f"destroying {dataset}")
    except DeadlineExceededError:
        if not is_busy:
            raise
        raise DiskError(
            f"{dataset} is busy: a process has its device open",
            fix=f"fuser -v $(readlink -f /dev/zvol/{dataset}); it is tried again",
        ) from None


def _destroy(zfs: Zfs, dataset: str, snapshots: list[str], deadline: Deadline) -> bool:
    """Try once; return whether it is gone, rather than busy."""
    what = f"looking whether {dataset} is in use"
    bounded(functools.partial(check_free, dataset, deadline), what, _a_little_after(deadline))
    for name in snapshots:
        zfs.release(name, deadline=deadline)
    try:
        with ignoring(errno.ENOENT):
            zfs.destroy([*snapshots, dataset], deadline=deadline)
    except ZfsError as error:
        if error.number != errno.EBUSY:
            raise
        return False
    return True


@contextlib.contextmanager
def left_behind(dataset: str) -> Iterator[None]:
    """Go on when something that a crash left can't be dropped now: it must not keep a service down.

    A pool that is still writing takes its time, and an administrator may be looking at it.
    """
    try:
        yield
    except (DiskError, DeadlineExceededError) as error:
        log.info("%s is left for later: %s", dataset, error)


def _a_little_after(deadline: Deadline) -> Deadline:
    """Return a deadline for a call that keeps the given one itself, and then says who has it."""
    return Deadline(deadline.remaining + 1, deadline.cancel)


def _check(snapshot: str, holds: dict[str, Any], clones: dict[str, Any]) -> None:
    if foreign := sorted(set(holds) - {HOLD}):
        raise DiskError(
            f"{snapshot} is held by someone else: {', '.join(foreign)}",
            fix=f"zfs release {foreign[0]} {snapshot}",
        )
    if clones:
        raise DiskError(
            f"{snapshot} has clones: {', '.join(sorted(clones))}",
            fix=f"zfs destroy {min(clones)}, if you made it and need it no more",
        )


def check_free(dataset: str, deadline: Deadline) -> None:
    """Look whether nobody has the volume's device; wait for it until the deadline.

    Raises:
        DiskError: someone has it.
    """
    if (path := zfs_device.find(dataset)) is None:
        return
    try:
        with zfs_device.claimed(path, dataset, deadline):
            pass
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENXIO):  # it has just gone
            raise

"""The datasets of the store: made by `zfsiscsi storage init`, and still as it made them."""

from __future__ import annotations

from collections.abc import Iterator

from cuckoo_zfsiscsi.check import Finding
from cuckoo_zfsiscsi.config import Config
from cuckoo_zfsiscsi.disk.store.zfs_layout import MARK, ROLE, Layout
from cuckoo_zfsiscsi.doctor.system import System


def check_datasets(config: Config, system: System) -> Iterator[Finding]:
    """Look at the parent, and at all volumes below it."""
    layout = Layout(config.storage.pool or "")
    pool = system.run(["zfs", "list", "-Ho", "name", layout.place])
    if pool is None or pool.code:
        if layout.place != layout.pool and pool is not None:
            where = f"[storage] pool = {layout.place}"
            yield Finding("error", where, pool.reason, f"zfs create {layout.place}")
        return  # the check of the pool says so
    where = f"dataset {layout.parent}"
    role = system.run(["zfs", "get", "-Hp", "-o", "value", ROLE, layout.parent])
    if role is None or role.code:
        what, fix = "there is no store in this pool", f"zfsiscsi storage init {layout.place}"
        yield Finding("error", where, what, fix)
        return
    if role.out.strip() != MARK:
        what = "is there, but `zfsiscsi storage init` has not made it"
        fix = f"zfs list -r {layout.parent}; set [storage] pool to another dataset"
        yield Finding("error", where, what, fix)
        return
    yield Finding("ok", where, "is a store")
    yield from _volmode(layout, system)
    yield from _sync(layout, system)


def _volmode(layout: Layout, system: System) -> Iterator[Finding]:
    """Look for another volmode than dev: the kernel reads the guests' partition tables then."""
    where = f"volmode below {layout.parent}"
    answer = system.run(["zfs", "get", "-Hpr", "-o", "name,value", "-t", "filesystem,volume",
                         "volmode", layout.parent])  # fmt: skip
    modes = answer.pairs("\t") if answer is not None and not answer.code else {}
    wrong = [name for name, mode in modes.items() if mode not in ("dev", "-")]
    if not wrong:
        yield Finding("ok", where, "is dev: no partition of a guest is looked at")
        return
    first = wrong[0]
    what = f"{first} has {modes[first]}: LVM and udev of this server act on what guests write"
    fix = f"zfs set volmode=dev {layout.parent}"
    if first != layout.parent:
        fix = f"zfs inherit volmode {first}, then export and import the pool"
    yield Finding("error", where, what, fix)


def _sync(layout: Layout, system: System) -> Iterator[Finding]:
    answer = system.run(["zfs", "get", "-Hp", "-o", "value", "sync", layout.disks])
    if answer is None or answer.code:
        return
    where, value = f"sync of {layout.disks}", answer.out.strip()
    if value == "disabled":
        yield Finding("ok", where, "is disabled: these disks are thrown away after a power cut")
    else:
        what = f"is {value}: each flush of a guest waits for the disks"
        yield Finding("warning", where, what, f"zfs set sync=disabled {layout.disks}")

"""Makes a pool ready, once, and looks whether it is. What we did not make is never touched."""

from __future__ import annotations

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.store.zfs_call import Zfs
from cuckoo_zfsiscsi.disk.store.zfs_catalogue import OWN
from cuckoo_zfsiscsi.disk.store.zfs_layout import MARK, OWNER, ROLE, Layout
from cuckoo_zfsiscsi.errors import DiskError

_LOOK = f"""
{OWN}
local argv = ...
argv = argv["argv"]
if not zfs.exists(argv[1]) then return {{there = 0}} end
return {{there = 1, role = own(argv[1], "{ROLE}"), owner = own(argv[1], "{OWNER}")}}
"""

PARENT = {
    "mountpoint": "none",
    "canmount": "off",
    "compression": "lz4",
    # The default would show the guests' partitions to this server, whose LVM and udev would act on
    # them. It must be set here: at a clone it has no effect (2.1)
    "volmode": "dev",
    "snapdev": "hidden",
}
"""Properties of PARENT, inherited by all below."""
CHILDREN: dict[str, dict[str, str]] = {
    "images": {"sync": "standard"},
    # Who imports begins anew after a crash, and who boots a disk gets another one
    "imports": {"sync": "disabled"},
    "disks": {"sync": "disabled"},
    "evidence": {"sync": "disabled", "readonly": "on"},
}
"""Properties of the datasets below, by name."""


class Setup:
    """The datasets of one store.

    Args:
        layout: of the store.
        zfs: its pool.
    """

    def __init__(self, layout: Layout, zfs: Zfs) -> None:
        self._layout = layout
        self._zfs = zfs

    def owner(self, *, deadline: Deadline) -> str:
        """Return who has the store open, as on record; "" for nobody.

        Raises:
            DiskError: there is no store.
        """
        place, parent = self._layout.place, self._layout.parent
        try:
            found = self._zfs.read(_LOOK, [parent], deadline=deadline)
        except DiskError as error:
            raise self._no_place(deadline) or error from error
        if not found["there"]:
            raise self._no_place(deadline) or DiskError(
                f"{place} is not ready: there is no {parent}", fix=f"zfsiscsi storage init {place}"
            )
        if found["role"] != MARK:
            raise self._not_ours()
        return str(found["owner"])

    def init(self, *, take: bool, deadline: Deadline) -> bool:
        """Make everything that is missing. Return whether there was anything.

        Args:
            take: the store from another machine that did not give it up.
            deadline: for all of it.

        Raises:
            DiskError: there is no such pool, or PARENT is someone else's.
        """
        if error := self._no_place(deadline):
            raise error
        parent = self._layout.parent
        changed = self._ensure(parent, PARENT, deadline)
        for name, properties in CHILDREN.items():
            wanted = {"canmount": "off", **properties}
            changed = self._ensure(f"{parent}/{name}", wanted, deadline) or changed
        if take:
            self._zfs.set([(parent, OWNER, "")], deadline=deadline)
        return changed

    def _ensure(self, dataset: str, wanted: dict[str, str], deadline: Deadline) -> bool:
        """Make a dataset with these properties, or give them to one that we made."""
        is_parent = dataset == self._layout.parent
        marked = {**wanted, ROLE: MARK} if is_parent else wanted
        given = [f"{name}={value}" for name, value in marked.items()]
        found = self._zfs.read(_LOOK, [dataset], deadline=deadline)
        if not found["there"]:
            options = [word for one in given for word in ("-o", one)]
            self._zfs.command("zfs", "create", *options, dataset, deadline=deadline)
            return True
        if is_parent and found["role"] != MARK:
            raise self._not_ours()
        argv = ("zfs", "get", "-Hpo", "property,value", ",".join(wanted), dataset)
        lines = self._zfs.command(*argv, deadline=deadline).splitlines()
        if dict(line.split("\t") for line in lines) == wanted:
            return False
        self._zfs.command("zfs", "set", *given, dataset, deadline=deadline)
        return True

    def _not_ours(self) -> DiskError:
        parent = self._layout.parent
        return DiskError(
            f"{parent} is there, but was not made by zfsiscsi storage init: it is left alone",
            fix=f"zfs create {self._layout.place}/lab, zfsiscsi storage init "
            f"{self._layout.place}/lab, and pool = {self._layout.place}/lab in [storage]",
        )

    def _no_place(self, deadline: Deadline) -> DiskError | None:
        """Return the error of a pool or dataset that is not there; None when it is."""
        pools = self._zfs.command("zpool", "list", "-Ho", "name", deadline=deadline).split()
        place, pool = self._layout.place, self._layout.pool
        if pool not in pools:
            return DiskError(
                f"there is no pool {pool}",
                fix=f"zpool import {pool}, if it exists; to make one: zpool create -o ashift=12 "
                f"{pool} mirror /dev/disk/by-id/ONE /dev/disk/by-id/OTHER",
            )
        if not self._zfs.read(_LOOK, [place], deadline=deadline)["there"]:
            return DiskError(f"there is no dataset {place}", fix=f"zfs create {place}")
        return None

"""Evidence: dirty disks of past runs, kept read-only until a rule drops them."""

from __future__ import annotations

import errno
import functools
import time
from collections.abc import Mapping
from dataclasses import dataclass

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.bounded import bounded
from cuckoo_zfsiscsi.disk.store import Evidence
from cuckoo_zfsiscsi.disk.store.zfs_call import Zfs
from cuckoo_zfsiscsi.disk.store.zfs_catalogue import OWN, number
from cuckoo_zfsiscsi.disk.store.zfs_drop import LOOK, check_free, drop, left_behind
from cuckoo_zfsiscsi.disk.store.zfs_error import ignoring
from cuckoo_zfsiscsi.disk.store.zfs_layout import (
    CHANGED,
    GENERATION,
    HOST,
    IMAGE,
    KEPT,
    KEPT_AS,
    ROLE,
    TAKEN,
    Layout,
)
from cuckoo_zfsiscsi.errors import DiskError

DAY = 24 * 3600.0
GIB = 1 << 30

_LIST = f"""
{OWN}
local argv = ...
argv = argv["argv"]
local found = {{}}
for dataset in zfs.list.children(argv[1]) do
    found[dataset] = {{
        role = own(dataset, "{ROLE}"),
        host = own(dataset, "{HOST}"),
        generation = own(dataset, "{GENERATION}"),
        image = own(dataset, "{IMAGE}"),
        kept = own(dataset, "{KEPT}"),
        changed = own(dataset, "{CHANGED}"),
        used = zfs.get_prop(dataset, "used"),
    }}
end
return found
"""


@dataclass(frozen=True, slots=True)
class EvidenceRules:
    """How much evidence is kept; whatever is too much is dropped, the oldest first."""

    hosts: Mapping[str, int]
    """How many of each host. Those of other hosts are not counted."""
    days: int
    gib: int
    """Of all hosts together."""

    def too_much(self, found: list[Evidence], now: float) -> list[Evidence]:
        """Return what is to be dropped."""
        newest_first = sorted(found, key=lambda one: (one.kept, one.generation), reverse=True)
        counts: dict[str, int] = {}
        used, dropped = 0, []
        for one in newest_first:
            counts[one.host] = counts.get(one.host, 0) + 1
            old = one.kept < now - self.days * DAY
            many = counts[one.host] > self.hosts.get(one.host, counts[one.host])
            if old or many or used + one.used > self.gib * GIB:
                dropped.append(one)
            else:
                used += one.used
        return dropped[::-1]


class EvidenceRoom:
    """The evidence of one store. Any process may drop some at any time.

    Args:
        layout: of the store.
        zfs: its pool.
    """

    def __init__(self, layout: Layout, zfs: Zfs) -> None:
        self._layout = layout
        self._zfs = zfs

    def all(self, *, deadline: Deadline) -> list[Evidence]:
        """Return all of it, the oldest first; also what is being dropped."""
        found = self._zfs.read(_LIST, [self._layout.evidence], deadline=deadline)
        evidence = [
            Evidence(
                dataset.rpartition("/")[2],
                facts["host"],
                number(facts["generation"]),
                facts["image"],
                float(number(facts["kept"])),
                number(facts["changed"]),
                facts["used"],
                dataset,
            )
            for dataset, facts in found.items()
            if facts["role"] in ("evidence", "dropped")
        ]
        return sorted(evidence, key=lambda one: (one.kept, one.host, one.generation))

    def keep(
        self, dataset: str, host: str, generation: int, image: str, *, deadline: Deadline
    ) -> str:
        """Make evidence of a retired disk; return its new name. Can be done again after a crash.

        Raises:
            DiskError: someone has its device.
            StoreFullError, ZfsError: not kept; the disk is where it was.
        """
        what = f"looking whether {dataset} is in use"
        patient = Deadline(deadline.remaining + 1, deadline.cancel)  # check_free() keeps the other
        bounded(functools.partial(check_free, dataset, deadline), what, patient)
        facts = {
            ROLE: "evidence", HOST: host, GENERATION: str(generation), IMAGE: image,
            KEPT: str(int(time.time())),
        }  # fmt: skip
        self._zfs.set([(dataset, *fact) for fact in facts.items()], deadline=deadline)
        snapshot = f"{dataset}@{KEPT_AS}"
        with ignoring(errno.EEXIST):
            self._zfs.snapshot([snapshot], {}, deadline=deadline)
        self._zfs.hold([snapshot], deadline=deadline)
        with ignoring(errno.ENOENT):  # without @base nobody can tell
            changed = self._zfs.changed(snapshot, f"{dataset}@{TAKEN}", deadline=deadline)
            self._zfs.set([(dataset, CHANGED, str(changed))], deadline=deadline)
        name = self._layout.kept(host, generation)
        self._zfs.rename(dataset, name, deadline=deadline)  # readonly=on is inherited there
        return name

    def find(self, name: str, *, deadline: Deadline) -> Evidence:
        """Return one.

        Raises:
            DiskError: there is none of that name.
        """
        for one in self.all(deadline=deadline):
            if one.name == name:
                return one
        raise DiskError(f"there is no evidence {name}", fix="zfsiscsi evidence list")

    def drop(self, evidence: Evidence, *, deadline: Deadline) -> None:
        """Drop one; nothing if it is gone.

        Raises:
            DiskError: someone has its device, or holds it.
        """
        # From here on it is not evidence any more, wherever a crash comes
        self._zfs.set([(evidence.dataset, ROLE, "dropped")], deadline=deadline)
        drop(self._zfs, evidence.dataset, deadline=deadline)

    def tidy(self, *, deadline: Deadline) -> None:
        """Finish what a crash left."""
        found = self._zfs.read(_LIST, [self._layout.evidence], deadline=deadline)
        for dataset in sorted(found):
            if found[dataset]["role"] == "dropped":
                with left_behind(dataset):
                    drop(self._zfs, dataset, deadline=deadline.within(LOOK))

    def prune(self, rules: EvidenceRules, *, deadline: Deadline) -> list[Evidence]:
        """Drop what is too much; return it."""
        too_much = rules.too_much(self.all(deadline=deadline), time.time())
        for one in too_much:
            self.drop(one, deadline=deadline)
        return too_much

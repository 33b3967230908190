"""Evidence: dirty disks of past runs, kept read-only until a rule drops them."""

from __future__ import annotations

import errno
import functools
import time
from collections.abc import Callable, Sequence
from typing import Any

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.bounded import bounded
from cuckoo_zfsiscsi.disk.store import Evidence
from cuckoo_zfsiscsi.disk.store.zfs_age import Age, Uptime, uptime
from cuckoo_zfsiscsi.disk.store.zfs_call import Zfs
from cuckoo_zfsiscsi.disk.store.zfs_catalogue import OWN, number
from cuckoo_zfsiscsi.disk.store.zfs_drop import LOOK, check_free, drop, left_behind
from cuckoo_zfsiscsi.disk.store.zfs_error import ignoring
from cuckoo_zfsiscsi.disk.store.zfs_layout import (
    CHANGED,
    CLOCK,
    GENERATION,
    HOST,
    IMAGE,
    KEPT,
    KEPT_AS,
    ROLE,
    SINCE,
    TAKEN,
    Layout,
)
from cuckoo_zfsiscsi.disk.store.zfs_retention import EvidenceRules
from cuckoo_zfsiscsi.errors import DiskError

_LIST = f"""
{OWN}
local argv = ...
argv = argv["argv"]
local found = {{}}
for dataset in zfs.list.children(argv[2]) do
    found[dataset] = {{
        role = own(dataset, "{ROLE}"),
        host = own(dataset, "{HOST}"),
        generation = own(dataset, "{GENERATION}"),
        image = own(dataset, "{IMAGE}"),
        kept = own(dataset, "{KEPT}"),
        since = own(dataset, "{SINCE}"),
        changed = own(dataset, "{CHANGED}"),
        used = zfs.get_prop(dataset, "used"),
    }}
end
return {{clock = own(argv[1], "{CLOCK}"), found = found}}
"""


CLOCK_EVERY = 600.0
"""Seconds after which the clock is put on record again: what a crash loses of it at most."""


class EvidenceRoom:
    """The evidence of one store. Any process may drop some at any time.

    Args:
        layout: of the store.
        zfs: its pool.
        clock: that its age goes by, see zfs_age.py.
    """

    def __init__(self, layout: Layout, zfs: Zfs, clock: Callable[[], Uptime] = uptime) -> None:
        self._layout = layout
        self._zfs = zfs
        self._clock = clock

    def _look(self, deadline: Deadline) -> tuple[Age, dict[str, dict[str, Any]]]:
        """Return the time that was on record, and what there is, by dataset."""
        names = [self._layout.parent, self._layout.evidence]
        found = self._zfs.read(_LIST, names, deadline=deadline)
        return Age.parse(found["clock"]), found["found"]

    def now(self, *, deadline: Deadline, record: bool = False) -> float:
        """Return the time that evidence grows old by, in seconds.

        Args:
            deadline: for it.
            record: put it on record; else that is done now and then.
        """
        recorded, _ = self._look(deadline)
        now = recorded.at(self._clock())
        is_late = now.boot != recorded.boot or now.seconds - recorded.seconds >= CLOCK_EVERY
        if record or is_late:
            self._zfs.set([(self._layout.parent, CLOCK, str(now))], deadline=deadline)
        return now.seconds

    def all(self, *, deadline: Deadline) -> list[Evidence]:
        """Return all of it, the oldest first; also what is being dropped."""
        recorded, found = self._look(deadline)
        now = recorded.at(self._clock()).seconds
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
                float(number(facts["since"])) if facts["since"] else now,
            )
            for dataset, facts in found.items()
            if facts["role"] in ("evidence", "dropped")
        ]
        return sorted(evidence, key=lambda one: (one.since, one.host, one.generation))

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
            KEPT: str(int(time.time())), SINCE: f"{self.now(deadline=deadline):.0f}",
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
        """Finish what a crash left, and begin to count the age of what has none yet."""
        now = self.now(deadline=deadline)
        _, found = self._look(deadline)
        for dataset in sorted(found):
            if found[dataset]["role"] == "dropped":
                with left_behind(dataset):
                    drop(self._zfs, dataset, deadline=deadline.within(LOOK))
        new = [one for one, facts in found.items() if facts["role"] and not facts["since"]]
        self._zfs.set([(dataset, SINCE, f"{now:.0f}") for dataset in new], deadline=deadline)

    def prune(
        self, rules: EvidenceRules, room: int, coming: Sequence[Evidence], *, deadline: Deadline
    ) -> list[Evidence]:
        """Drop what is too much; return it.

        Args:
            rules: of what is kept.
            room: bytes that the pool has for all of it.
            coming: disks that are about to be kept; those among them that are too much are
                returned, too, and left where they are.
            deadline: for all of it.

        Raises:
            DiskError: one can't be dropped; others were.
        """
        found = [*self.all(deadline=deadline), *coming]
        too_much = rules.too_much(found, self.now(deadline=deadline), room)
        for one in too_much:
            if one not in coming:
                self.drop(one, deadline=deadline)
        return too_much

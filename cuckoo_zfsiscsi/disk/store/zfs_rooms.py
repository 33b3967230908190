"""The room of each host's disks: what one guest writes takes nothing from any other host.

The folder of a host's disks has a quota, so that its guest fills its own room; and the folder above
all of them has a reservation, so that these rooms are there. Both are needed: what has a
reservation and no quota beside it is refused writes in a full pool (ENOSPC, measured with ZFS
2.1.11 after 8 of 200 MiB), as ZFS reckons each write that is under way with 24 times its size
(spa_asize_inflation), and wants that to fit.

A room is for two disks: that of a run, and the one before it, which is thrown away while the next
run has begun. A run may write half of it; when the disk before it takes much, the quota is the
whole until that is gone.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from cuckoo_zfsiscsi.at_once import at_once
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.bounded import begun
from cuckoo_zfsiscsi.disk.store.zfs_call import Zfs
from cuckoo_zfsiscsi.disk.store.zfs_layout import Layout
from cuckoo_zfsiscsi.errors import DiskError, StoreFullError

log = logging.getLogger(__name__)

GIB = 1 << 30
LEAST = GIB
"""Bytes that a run must be able to write: an ordinary one does. Of a smaller disk all."""
_DIGITS = 5
"""Rooms are rounded down to so many binary digits, so that they seldom change."""
_MUCH = 8
"""A disk before the running one takes much when that is an eighth of what a run may write."""
_WIDEN_TIMEOUT = 60.0
_AT_ONCE = 16
"""Quotas that are set at the same time: each waits for a transaction group of its own."""

_FACTS = """
local argv = ...
argv = argv["argv"]
local pool, parent, disks, evidence, images = argv[1], argv[2], argv[3], argv[4], argv[5]
local hosts, largest = {}, 0
for folder in zfs.list.children(disks) do
    local quota = zfs.get_prop(folder, "quota") or 0
    hosts[folder] = {used = zfs.get_prop(folder, "used"), quota = quota}
end
for folder in zfs.list.children(images) do
    for dataset in zfs.list.children(folder) do
        if zfs.get_prop(dataset, "type") == "volume" then
            local size = zfs.get_prop(dataset, "volsize")
            if size > largest then largest = size end
        end
    end
end
return {
    used = zfs.get_prop(pool, "used"),
    available = zfs.get_prop(pool, "available"),
    here = zfs.get_prop(parent, "available"),
    disks = zfs.get_prop(disks, "used"),
    reserved = zfs.get_prop(disks, "reservation") or 0,
    evidence = zfs.get_prop(evidence, "used"),
    largest = largest,
    hosts = hosts,
}
"""


@dataclass(frozen=True, slots=True)
class Occupied:
    """What there is in a pool, in bytes."""

    total: int
    """Of the pool, less redundancy and what ZFS keeps for itself."""
    free: int
    """That nothing takes, whoever it is reserved for."""
    evidence: int = 0
    """That evidence takes."""
    largest: int = 0
    """Size of the largest image."""
    reserved: int = 0
    """For all disks, those that are there included."""
    hosts: Mapping[str, int] = field(default_factory=dict)
    """What the disks of each host take."""
    quotas: Mapping[str, int] = field(default_factory=dict)
    """Of each host's disks; 0 for none."""

    @property
    def disks(self) -> int:
        """What the disks of all hosts take."""
        return sum(self.hosts.values())

    @property
    def unpromised(self) -> int:
        """What is free and reserved for no host's disks."""
        return self.free - max(0, self.reserved - self.disks)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the configuration says of it."""

    hosts: tuple[str, ...] = ()
    """That have disks here."""
    pool_free: int = 10
    """Percent of the pool that stay free."""
    evidence: int = 0
    """Bytes that evidence may take; 0 when none is kept."""
    run: int = 0
    """Bytes that each run may write; 0: as much as there is for all hosts alike."""


@dataclass(frozen=True, slots=True)
class Division:
    """Who has how much room, in bytes."""

    run: int
    """That each run may write."""
    sure: int
    """That each run can write, whatever other hosts write."""
    least: int
    """That it must be."""
    reserved: int
    """For the disks of all hosts."""
    quotas: Mapping[str, int]
    """Of each host's disks."""
    left: int
    """That stays free then, and reserved for no host's disks, before what is needed is taken."""
    total: int
    """Of the pool."""

    @property
    def is_enough(self) -> bool:
        """Whether a host can be given a disk."""
        return self.sure >= self.least

    @property
    def is_overcommitted(self) -> bool:
        """Whether runs may write more than there is for all of them."""
        return self.sure < self.run


def divide(
    there: Occupied, wanted: Wanted, needed: int = 0, wide: Collection[str] = ()
) -> Division:
    """Give every host the same room, of what pool_free, evidence and something needed leave.

    Evidence that is yet to come is left no more than half, and nothing that a host needs.

    Args:
        there: what the pool holds.
        wanted: by the configuration.
        needed: bytes that something else is about to take.
        wide: hosts whose disk before the running one takes much.
    """
    hosts = wanted.hosts
    others = sum(used for host, used in there.hosts.items() if host not in hosts)
    stays_free = there.total * wanted.pool_free // 100
    rest = max(0, there.free + there.disks - others - stays_free - needed)
    least = min(LEAST, there.largest)
    count = max(1, len(hosts))
    to_come = min(max(0, wanted.evidence - there.evidence), rest // 2)
    # Of two disks each. One that is written over and over takes no more than it holds, but for
    # metadata; more would be of no use
    most = 2 * (wanted.run or there.largest + there.largest // 16)
    room = min(most, max((rest - to_come) // count, min(2 * least, rest // count)))
    room = max(_rounded(room), min(room, 2 * least))
    run = wanted.run or room // 2
    if not (hosts and run):  # no host, or no image, or no room at all: nothing is changed
        least = least if hosts else 0
        return Division(0, 0, least, there.reserved, {}, there.unpromised, there.total)
    quotas = {host: _quota(there, host, run, room, host in wide) for host in hosts}
    takes = {host: max(room, there.hosts.get(host, 0)) for host in hosts}
    reserved = min(others + sum(takes.values()), there.disks + there.free)
    left = there.free - max(0, reserved - there.disks)
    return Division(run, min(run, room // 2), least, reserved, quotas, left, there.total)


def _quota(there: Occupied, host: str, run: int, room: int, is_wide: bool) -> int:
    """Return what all disks of a host may take now; never less than they do."""
    used = there.hosts.get(host, 0)
    was_wide = there.quotas.get(host, 0) > run and used > run // _MUCH
    return max(run, used, room if is_wide or was_wide else 0)


def _rounded(number: int) -> int:
    spare = max(0, number.bit_length() - _DIGITS)
    return number >> spare << spare


class Rooms:
    """The rooms in one pool. Any process may divide it: each comes to the same.

    Args:
        layout: of the store.
        zfs: its pool.
        wanted: by the configuration.
    """

    def __init__(self, layout: Layout, zfs: Zfs, wanted: Wanted) -> None:
        self._layout = layout
        self._zfs = zfs
        self._wanted = wanted
        self._last: Division | None = None
        self._wide: set[str] = set()
        """Hosts that have their whole room for now. A swap does not wait for the lock."""
        self._lock = threading.Lock()

    @property
    def last(self) -> Division | None:
        """As it was divided last by this process."""
        return self._last

    @property
    def wanted(self) -> Wanted:
        """By the configuration."""
        return self._wanted

    def look(self, *, deadline: Deadline) -> Occupied:
        """Return what there is in the pool."""
        layout = self._layout
        names = [layout.pool, layout.parent, layout.disks, layout.evidence, layout.images]
        found = self._zfs.read(_FACTS, names, deadline=deadline)
        hosts = {name.rpartition("/")[2]: one for name, one in found["hosts"].items()}
        reserved = found["reserved"]
        unspent = max(0, reserved - found["disks"])
        return Occupied(
            total=found["used"] + found["available"],
            free=min(found["available"], found["here"]) + unspent,
            evidence=found["evidence"],
            largest=found["largest"],
            reserved=reserved,
            hosts={host: one["used"] for host, one in hosts.items()},
            quotas={host: one["quota"] for host, one in hosts.items()},
        )

    def reckon(self, *, deadline: Deadline) -> Division:
        """Look how it would be divided; change nothing."""
        return divide(self.look(deadline=deadline), self._wanted)

    def divide(self, *, needed: int = 0, deadline: Deadline) -> Division:
        """Look, and set what has changed. It is for the caller to see whether it is enough."""
        with self._lock:
            there = self.look(deadline=deadline)
            division = divide(there, self._wanted, needed, frozenset(self._wide))
            if not self._set(there, division, deadline):
                division = replace(division, sure=0)
            self._last = division
            quotas = division.quotas.items()
            self._wide.update(host for host, quota in quotas if quota > division.run)
            return division

    def _set(self, there: Occupied, division: Division, deadline: Deadline) -> bool:
        """Take before giving: what one host has no more is what another one gets.

        Return whether all rooms are there.
        """
        disks = [self._layout.disks]
        if division.reserved < there.reserved:
            self._change("reservation", division.reserved, disks, deadline)
        by_size: dict[int, list[str]] = {}
        for host, quota in division.quotas.items():
            if there.quotas.get(host, quota) != quota:  # without a folder there is none to set
                by_size.setdefault(quota, []).append(self._layout.host(host))
        for quota in sorted(by_size):
            folders = by_size[quota]
            parts = [folders[first::_AT_ONCE] for first in range(min(_AT_ONCE, len(folders)))]
            calls = [partial(self._change, "quota", quota, part, deadline) for part in parts]
            for done in at_once(calls, deadline.clock, "zfs-quota"):
                done.result()
        if division.reserved > there.reserved:
            return self._change("reservation", division.reserved, disks, deadline)
        return True

    def _change(self, name: str, value: int, datasets: Sequence[str], deadline: Deadline) -> bool:
        """Set a property; False when it can't be set now: a guest may write just then."""
        try:
            self._zfs.command("zfs", "set", f"{name}={value}", *datasets, deadline=deadline)
        except DiskError as error:
            log.warning("the room of disks can't be set: %s", error)
            return False
        return True

    def quota(self, host: str) -> int:
        """Return that of a host whose folder is about to be made; 0 for none."""
        return self._last.quotas.get(host, 0) if self._last else 0

    @property
    def is_enough(self) -> bool:
        """Whether every host's next run could write what it must, when it was looked at last."""
        return self._last is None or self._last.is_enough

    def note(self, host: str, used: int) -> None:
        """Note at a swap what a host's disks take: all of it is to be thrown away.

        If that is much, the next run gets its room beside it, in the background: soon enough, as a
        host takes some seconds to boot.
        """
        last = self._last
        if last is None or host not in last.quotas or used <= last.run // _MUCH:
            return
        if (whole := max(last.run, 2 * last.sure)) == last.run:  # overcommitted
            return
        self._wide.add(host)
        folder, deadline = self._layout.host(host), Deadline(_WIDEN_TIMEOUT)
        change = partial(self._change, "quota", whole, [folder], deadline)
        begun(change, f"giving room to {folder}", deadline)

    def dropped(self, host: str, *, deadline: Deadline) -> None:
        """Note that what a host had before its run is thrown away."""
        if host in self._wide:
            self._wide.discard(host)
            self.divide(deadline=deadline)


def not_enough(what: str, division: Division, pool: str) -> StoreFullError:
    """Return the error of a pool that is too small for its hosts."""
    return StoreFullError(
        f"no room for {what}: in the pool {pool} each run could be promised "
        f"{division.sure / 1e9:.1f} GB to write, and {division.least / 1e9:.1f} GB is the least",
        fix="delete images that no host uses (zfsiscsi image list), have fewer hosts, or add "
        f"disks: zpool add {pool} ...",
    )

"""What becomes of retired disks, in the background: evidence, or nothing."""

from __future__ import annotations

from collections.abc import Sequence

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.store import Evidence
from cuckoo_zfsiscsi.disk.store.zfs_call import Zfs
from cuckoo_zfsiscsi.disk.store.zfs_disks import Clone, HostDisks
from cuckoo_zfsiscsi.disk.store.zfs_drop import drop
from cuckoo_zfsiscsi.disk.store.zfs_evidence import EvidenceRoom
from cuckoo_zfsiscsi.disk.store.zfs_layout import LAST
from cuckoo_zfsiscsi.disk.store.zfs_proof import State, read_states
from cuckoo_zfsiscsi.disk.store.zfs_retention import EvidenceRules
from cuckoo_zfsiscsi.disk.store.zfs_rooms import Rooms
from cuckoo_zfsiscsi.disk.store.zfs_space import Room
from cuckoo_zfsiscsi.errors import DiskError

PATIENCE = 20.0
"""Seconds in which one disk must be let go of."""


class Retired:
    """Drops disks, or keeps them as evidence.

    Args:
        zfs: the store's pool.
        evidence: of the store.
        rules: of the evidence.
        room: in the pool.
        rooms: of the hosts' disks in it.
    """

    def __init__(
        self, zfs: Zfs, evidence: EvidenceRoom, rules: EvidenceRules, room: Room, rooms: Rooms
    ) -> None:
        self._zfs = zfs
        self._evidence = evidence
        self._rules = rules
        self._room = room
        self._rooms = rooms

    def discard(self, disks: HostDisks, *, deadline: Deadline) -> int:
        """As Store.discard_retired(). Be busy().

        Raises:
            DiskError: one can't be dropped; the others are.
        """
        failures: list[DiskError] = []
        dropped = 0
        disks.flush(deadline)
        coming = self._coming(disks, deadline)
        try:
            too_much = self._prune(list(coming.values()), deadline)
        except DiskError as error:  # it must not keep the others
            failures.append(error)
            too_much = []
        worth = {number for number, one in coming.items() if one not in too_much}
        for clone in disks.of("retired", "dropped"):
            deadline.check(f"dropping retired disks of {disks.host}")
            is_evidence = clone.role == "retired" and clone.generation in worth
            try:
                # One that is not let go of leaves time for the others
                patience = deadline.within(min(PATIENCE, deadline.remaining / 2))
                self._put_away(disks, clone, is_evidence, patience)
            except DiskError as error:
                failures.append(error)
            else:
                dropped += not is_evidence
        self._rooms.dropped(disks.host, deadline=deadline)
        if failures:
            raise failures[0]
        return dropped + len([one for one in too_much if one not in coming.values()])

    def _prune(self, coming: Sequence[Evidence], deadline: Deadline) -> list[Evidence]:
        """Drop the evidence that is too much with that which is coming; return it.

        Before that one is kept: it may be too much itself, and the pool has no room for it.
        """
        room = self._room.for_evidence(deadline=deadline)
        return self._evidence.prune(self._rules, room, coming, deadline=deadline)

    def _coming(self, disks: HostDisks, deadline: Deadline) -> dict[int, Evidence]:
        """Return the retired disks that are evidence, by generation: a guest wrote to them."""
        retired = disks.of("retired")
        if not retired or not self._rules.hosts.get(disks.host):
            return {}
        self._zfs.sync(deadline=deadline)  # `written` lags
        states = read_states(self._zfs, [one.dataset for one in retired], deadline=deadline)
        now = self._evidence.now(deadline=deadline)
        found = {}
        for clone in retired:
            written = states.get(clone.dataset, State(written=0)).written
            if written:
                found[clone.generation] = Evidence(
                    clone.dataset, clone.host, clone.generation, clone.image, kept=0.0,
                    changed=written, used=max(0, written), dataset=clone.dataset, since=now,
                )  # fmt: skip
        return found

    def _put_away(
        self, disks: HostDisks, clone: Clone, is_evidence: bool, deadline: Deadline
    ) -> None:
        if is_evidence:
            self._evidence.keep(
                clone.dataset, clone.host, clone.generation, clone.image, deadline=deadline
            )
            disks.forget(clone)
        else:
            self.drop(disks, clone, deadline=deadline)

    def drop(self, disks: HostDisks, clone: Clone, *, deadline: Deadline) -> None:
        """Drop one disk, whatever is on it.

        Raises:
            DiskError: someone has its device, or holds it.
        """
        # Its number is used up, also when the disk is gone
        self._zfs.set([(disks.folder, LAST, str(disks.last))], deadline=deadline)
        drop(self._zfs, clone.dataset, deadline=deadline)
        disks.forget(clone)

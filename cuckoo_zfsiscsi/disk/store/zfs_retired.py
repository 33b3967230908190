"""What becomes of retired disks, in the background: evidence, or nothing."""

from __future__ import annotations

import contextlib

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.store.zfs_call import Zfs
from cuckoo_zfsiscsi.disk.store.zfs_disks import Clone, HostDisks
from cuckoo_zfsiscsi.disk.store.zfs_drop import drop
from cuckoo_zfsiscsi.disk.store.zfs_evidence import EvidenceRoom, EvidenceRules
from cuckoo_zfsiscsi.disk.store.zfs_layout import LAST
from cuckoo_zfsiscsi.disk.store.zfs_proof import State, read_states
from cuckoo_zfsiscsi.errors import DeadlineExceededError, DiskError

PATIENCE = 20.0
"""Seconds in which one disk must be let go of."""


class Retired:
    """Drops disks, or keeps them as evidence.

    Args:
        zfs: the store's pool.
        evidence: of the store.
        rules: of the evidence.
    """

    def __init__(self, zfs: Zfs, evidence: EvidenceRoom, rules: EvidenceRules) -> None:
        self._zfs = zfs
        self._evidence = evidence
        self._rules = rules

    def discard(self, disks: HostDisks, *, deadline: Deadline) -> int:
        """As Store.discard_retired(). Be busy().

        Raises:
            DiskError: one can't be dropped; the others are.
        """
        failures: list[DiskError] = []
        dropped = 0
        disks.flush(deadline)
        written = self._written(disks, deadline)
        for clone in disks.of("retired", "dropped"):
            deadline.check(f"dropping retired disks of {disks.host}")
            try:
                # One that is not let go of leaves time for the others
                patience = deadline.within(min(PATIENCE, deadline.remaining / 2))
                self._put_away(disks, clone, clone in written, patience)
            except DiskError as error:  # it must not keep the others
                failures.append(error)
            else:
                dropped += clone not in written
        if failures:
            with contextlib.suppress(DiskError, DeadlineExceededError):
                self._evidence.prune(self._rules, deadline=deadline)
            raise failures[0]
        return dropped + len(self._evidence.prune(self._rules, deadline=deadline))

    def _written(self, disks: HostDisks, deadline: Deadline) -> list[Clone]:
        """Return the retired disks that are evidence: those that a guest wrote to."""
        retired = disks.of("retired")
        if not retired or not self._rules.hosts.get(disks.host):
            return []
        self._zfs.sync(deadline=deadline)  # `written` lags
        states = read_states(self._zfs, [one.dataset for one in retired], deadline=deadline)
        clean = State(written=0)
        return [one for one in retired if states.get(one.dataset, clean).written]

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

"""What the ZFS store keeps: spares, evidence, free space."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cuckoo_zfsiscsi.disk.store.zfs_retention import GIB, EvidenceRules
from cuckoo_zfsiscsi.disk.store.zfs_rooms import Wanted


@dataclass(frozen=True, slots=True)
class HostRules:
    """What is kept of one host."""

    spares: int = 1
    """Clean disks ahead."""
    evidence: int = 0
    """Dirty disks of past runs."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What is kept, and how much stays free."""

    hosts: Mapping[str, HostRules] = field(default_factory=dict)
    pool_free: int = 10
    """Percent."""
    evidence_days: int = 30
    evidence_gib: int = 100
    run_gib: int | None = None
    """That each run may write; None: as much as there is for all hosts alike."""

    def of(self, host: str) -> HostRules:
        """Return those of one host."""
        return self.hosts.get(host, HostRules())

    @property
    def evidence(self) -> EvidenceRules:
        """Return those of the evidence."""
        counts = {host: rules.evidence for host, rules in self.hosts.items()}
        return EvidenceRules(counts, self.evidence_days, self.evidence_gib)

    @property
    def wanted(self) -> Wanted:
        """Return what room there shall be."""
        keeps = any(rules.evidence for rules in self.hosts.values())
        evidence = self.evidence_gib * GIB if keeps else 0
        return Wanted(tuple(self.hosts), self.pool_free, evidence, (self.run_gib or 0) * GIB)

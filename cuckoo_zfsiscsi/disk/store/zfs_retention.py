"""Which evidence is dropped: pure decisions. A host that takes much pays for it, and nobody else.

Where there is too much of all hosts together, the oldest of the host that takes most goes first. So
a host that takes no more than its equal share loses nothing, whatever other guests write.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from cuckoo_zfsiscsi.disk.store import Evidence

DAY = 24 * 3600.0
GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class EvidenceRules:
    """How much evidence is kept; whatever is too much is dropped."""

    hosts: Mapping[str, int]
    """How many of each host. Those of other hosts are not counted."""
    days: int
    gib: int
    """Of all hosts together."""

    def too_much(self, found: Iterable[Evidence], now: float, room: int) -> list[Evidence]:
        """Return what is to be dropped.

        Args:
            found: all that is kept, or about to be.
            now: on the clock that `since` of evidence is on.
            room: bytes that the pool has for all of it.
        """
        by_host = _by_host(found)
        dropped: list[Evidence] = []
        for host, theirs in by_host.items():
            most = self.hosts.get(host, len(theirs))
            many = theirs[: max(0, len(theirs) - most)]
            gone = [one for one in theirs if one in many or now - one.since > self.days * DAY]
            dropped += gone
            theirs[:] = [one for one in theirs if one not in gone]
        kept = [one for theirs in by_host.values() for one in theirs]
        return dropped + _until_fits(kept, min(self.gib * GIB, room))


def _until_fits(found: Sequence[Evidence], room: int) -> list[Evidence]:
    """Return what is to be dropped so that the rest takes no more than that."""
    used, dropped = sum(one.used for one in found), []
    for one in victims(found):
        if used <= room:
            break
        used -= one.used
        dropped.append(one)
    return dropped


def victims(found: Iterable[Evidence]) -> Iterator[Evidence]:
    """Yield all evidence, in the order in which it is given up for room."""
    by_host = _by_host(found)
    takes = {host: sum(one.used for one in theirs) for host, theirs in by_host.items()}
    while by_host:
        host = max(by_host, key=lambda one: (takes[one], len(by_host[one]), one))
        one = by_host[host].pop(0)
        takes[host] -= one.used
        if not by_host[host]:
            del by_host[host]
        yield one


def _by_host(found: Iterable[Evidence]) -> dict[str, list[Evidence]]:
    """Return that of each host, the oldest first: generations only grow, a clock may not."""
    by_host: dict[str, list[Evidence]] = {}
    for one in sorted(found, key=lambda one: (one.host, one.generation)):
        by_host.setdefault(one.host, []).append(one)
    return by_host

"""What the store holds and how full it is, looked at now and then: looks may wait for disks."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from cuckoo_zfsiscsi.clock import SYSTEM, Clock
from cuckoo_zfsiscsi.config import Storage
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.store import Evidence, Image, Space, Store
from cuckoo_zfsiscsi.errors import ZfsIscsiError

FRESH = 15.0
"""Seconds for which a look is good enough for everyone who asks."""
TIMEOUT = 5.0
"""Seconds that one look may take."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StorageReport:
    """One look at the store."""

    store: str
    """zfs or file."""
    place: str
    """Pool or dataset, or folder."""
    at: float = field(default_factory=time.time)
    """Seconds since the epoch."""
    space: Space | None = None
    """None: it could not be told."""
    images: list[Image] = field(default_factory=list)
    spares: dict[str, int] = field(default_factory=dict)
    """How many, by label."""
    evidence: list[Evidence] = field(default_factory=list)
    """The oldest first."""
    problem: str = ""
    """What could not be told, and how to help; else empty."""


class StorageLook:
    """Looks at the store of a service.

    Args:
        config: of it.
        store: opened before the first look.
        labels: of all hosts.
        clock: that a look grows old by.
    """

    def __init__(
        self, config: Storage, store: Store, labels: Sequence[str], clock: Clock = SYSTEM
    ) -> None:
        self._clock = clock
        place = config.pool if config.store == "zfs" else str(config.path)
        self._empty = StorageReport(config.store, place or "", problem="it is being looked at")
        self._last = self._empty
        self._looked = float("-inf")
        self._store = store
        self._labels = labels
        self._lock = threading.Lock()

    def report(self) -> StorageReport:
        """Return what is there, as of FRESH seconds ago. Waits; never fails.

        While another one looks it returns what was last seen: where a pool hangs, one thread waits
        for it and not all of them.
        """
        if self._clock.monotonic() > self._looked + FRESH and self._lock.acquire(blocking=False):
            try:
                self._last = self._look()
                self._looked = self._clock.monotonic()
            finally:
                self._lock.release()
        return self._last

    def _look(self) -> StorageReport:
        store, deadline = self._store, Deadline(TIMEOUT, clock=self._clock)
        where = (self._empty.store, self._empty.place)
        try:
            return StorageReport(
                *where,
                space=store.space(deadline=deadline),
                images=store.images(),
                spares={label: store.spares(label) for label in self._labels},
                evidence=store.kept(deadline=deadline),
            )
        except ZfsIscsiError as error:
            log.warning("the store can't be looked at: %s", error)
            return StorageReport(*where, problem=str(error))

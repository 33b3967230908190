"""The last recovery times of every host, at hand: for sparklines, and to tell how far a boot is."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable
from statistics import median

from cuckoo_zfsiscsi.errors import DiskError
from cuckoo_zfsiscsi.service.events import Event
from cuckoo_zfsiscsi.service.history import History

KEEP = 20
"""Boots of each host."""

log = logging.getLogger(__name__)


class Recent:
    """Implements Events: remembers boots that went well.

    Args:
        labels: of all hosts.
    """

    def __init__(self, labels: Iterable[str]) -> None:
        self._recoveries: dict[str, deque[float]] = {one: deque(maxlen=KEEP) for one in labels}
        self._boots: dict[str, deque[float]] = {one: deque(maxlen=KEEP) for one in labels}
        self._scripts: dict[str, deque[float]] = {one: deque(maxlen=KEEP) for one in labels}

    def load(self, history: History) -> None:
        """Begin with what an earlier service left on record, as far as it can be read. Waits."""
        try:
            boots = history.events(kind="boot", limit=2 * KEEP * max(1, len(self._boots)))
        except DiskError as error:
            log.warning("%s", error)
            return
        for boot in reversed(boots):
            self.note(boot)

    def note(self, event: Event) -> None:
        """As Events.note()."""
        if event.kind != "boot" or not event.ok or event.host not in self._boots:
            return
        if event.seconds is not None:
            self._boots[event.host].append(event.seconds)
        if "script" in event.stages:
            self._scripts[event.host].append(event.stages["script"])
        if "recovery" in event.stages:
            self._recoveries[event.host].append(event.stages["recovery"])

    def recoveries(self, label: str) -> list[float]:
        """Return recovery times in seconds, the oldest first."""
        return list(self._recoveries[label])

    def script_times(self, label: str) -> list[float]:
        """Return seconds from power-on until the boot script was asked for, the oldest first."""
        return list(self._scripts[label])

    def boot_takes(self, label: str) -> float | None:
        """Return the median seconds from power-on until ready; None before the first boot."""
        boots = list(self._boots[label])
        return median(boots) if boots else None

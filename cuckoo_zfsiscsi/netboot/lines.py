"""How many lines each source may put into the log: a guest must not fill it, nor hide others in it.

Sources are hosts; strangers are one, all together, as anybody can make up addresses.
"""

from __future__ import annotations

import logging
import re
import threading
from collections import Counter
from collections.abc import Iterable

from cuckoo_zfsiscsi.clock import SYSTEM, Clock
from cuckoo_zfsiscsi.config import HostConfig

PERIOD = 60.0
"""Seconds in which lines are counted."""
SERVER_LINES = 100
"""Lines of a DHCP or TFTP server about one source in PERIOD. A boot makes about twenty."""
STRANGER = "no host of ours"
ITSELF = "itself"
"""The source of lines that are about nobody: what a server says as it starts."""
MAC = re.compile(r"\b(?:[0-9a-f]{2}:){5}[0-9a-f]{2}\b")
IPV4 = re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}\b")


class LineLimit:
    """Counts lines. Safe from any thread.

    Args:
        most: lines of one source in PERIOD.
        clock: that it goes by.
    """

    def __init__(self, most: int, clock: Clock = SYSTEM) -> None:
        self._most, self._clock = most, clock
        self._lock = threading.Lock()
        self._lines: Counter[str] = Counter()
        self._since = clock.monotonic()

    def count(self, source: str) -> tuple[bool, dict[str, int]]:
        """Count a line.

        Args:
            source: of it; there must be few, and none that a guest can choose.

        Returns:
            Whether it may be written, and how many lines of each source could not in the period
            that has just ended.
        """
        now = self._clock.monotonic()
        missing: dict[str, int] = {}
        with self._lock:
            if now > self._since + PERIOD:
                most = self._most
                missing = {who: n - most for who, n in self._lines.items() if n > most}
                self._lines.clear()
                self._since = now
            self._lines[source] += 1
            return self._lines[source] <= self._most, missing


class ServerLog:
    """Writes down what a DHCP or TFTP server prints, so much about each host.

    Args:
        log: where to.
        prefix: of each line.
        hosts: all that exist.
        clock: that periods go by.
    """

    def __init__(
        self, log: logging.Logger, prefix: str, hosts: Iterable[HostConfig], clock: Clock = SYSTEM
    ) -> None:
        self._log, self._prefix = log, prefix
        self._names: dict[str, str] = {}
        for host in hosts:
            self._names |= {host.mac: host.label, str(host.ip): host.label}
        self._limit = LineLimit(SERVER_LINES, clock)

    def write(self, line: str) -> None:
        """Write a line, unless there are too many already about whom it is about."""
        is_written, missing = self._limit.count(self._about(line))
        for who, number in missing.items():
            self._log.info("%s%d more lines about %s", self._prefix, number, who)
        if is_written:
            self._log.info("%s%s", self._prefix, line)

    def _about(self, line: str) -> str:
        """Return whom a line is about. What a guest chose, a name, may hold any address.

        It stands after a MAC address (DHCP), and before an IP address (TFTP).
        """
        found = MAC.findall(line)[:1] or IPV4.findall(line)[-1:]
        return self._names.get(found[0], STRANGER) if found else ITSELF

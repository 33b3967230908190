"""What no honest host does on the boot network, in the log with the name of who did it.

Nothing here decides: whoever asks for what is not its own gets nothing anyway. But a person should
see which host tried. A guest must not fill the log: of each host a few lines a minute are kept.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from cuckoo_zfsiscsi.clock import SYSTEM, Clock
from cuckoo_zfsiscsi.config import HostConfig

log = logging.getLogger(__name__)

LINES = 10
"""In the log for one source in PERIOD; more are counted."""
PERIOD = 60.0
"""Seconds."""
FLOOD, IN = 60, 10.0
"""So many DHCP requests in so many seconds are a flood: a machine that boots makes a dozen."""
ARP = Path("/proc/net/arp")
LINE = 100
"""Bytes in which a line of it has its first four words (arp_format_neigh_entry() of Linux)."""
NOBODY = "00:00:00:00:00:00"


def neighbour(address: str, table: Path = ARP) -> str:
    """Return the MAC address that an address of the boot network has now, "" if not known."""
    try:
        lines = table.read_bytes()
    except OSError:
        return ""
    # Without a look at every line: hundreds of hosts may ask at once
    begin, wanted = 0, b"\n%s " % address.encode()
    while (begin := lines.find(wanted, begin) + 1) > 0:
        words = lines[begin : begin + LINE].split(None, 4)
        if len(words) > 3 and (card := words[3].decode("ascii", "replace")) != NOBODY:
            return card
    return ""


def cards(interface: str, table: Path = ARP) -> set[str]:
    """Return the MAC addresses that were heard on a card of the server lately."""
    try:
        lines = table.read_text("ascii", "replace").splitlines()[1:]
    except OSError:
        return set()
    found = (line.split() for line in lines)
    return {words[3] for words in found if len(words) == 6 and words[5] == interface} - {NOBODY}


class Offences:
    """Writes them down. Safe from any thread.

    Args:
        hosts: all that exist.
        clock: that periods go by.
    """

    def __init__(self, hosts: Iterable[HostConfig], clock: Clock = SYSTEM) -> None:
        hosts = list(hosts)
        self._clock = clock
        self._names = {str(host.ip): host.label for host in hosts}
        self._names |= {host.mac: host.label for host in hosts}
        self._lock = threading.Lock()
        self._said: Counter[str] = Counter()
        self._since = 0.0
        self._requests: Counter[tuple[str, bool]] = Counter()
        self._counted_since = 0.0

    def name(self, source: str) -> str:
        """Return who has an IP or MAC address."""
        return self._names.get(source, "no host of ours")

    def tell(self, source: str, what: str) -> None:
        """Write a line.

        Args:
            source: IP or MAC address of who did it.
            what: it did, in one line; what a guest chose is in quotation marks.
        """
        now = self._clock.monotonic()
        with self._lock:
            if now > self._since + PERIOD:
                more = {who: n - LINES for who, n in self._said.items() if n > LINES}
                self._said.clear()
                self._since = now
            else:
                more = {}
            self._said[source] += 1
            is_too_much = self._said[source] > LINES
        for who, number in more.items():
            log.warning("%s (%s): %d more of this", self.name(who), who, number)
        if not is_too_much:
            log.warning("%s (%s) %s", self.name(source), source, what)

    def count_dhcp(self, sender: str, card: str) -> None:
        """Count a DHCP request; those of all unknown senders together.

        Args:
            sender: MAC address that it came from.
            card: MAC address that it is for.
        """
        key = (sender if sender in self._names else "", card != sender)
        now = self._clock.monotonic()
        with self._lock:
            if now > self._counted_since + IN:
                self._requests.clear()
                self._counted_since = now
            self._requests[key] += 1
            is_flood = self._requests[key] == FLOOD
        if is_flood:
            how = " under made-up addresses" if card != sender else ""
            self.tell(sender, f"floods DHCP{how}: {FLOOD} requests in {IN:.0f} s")

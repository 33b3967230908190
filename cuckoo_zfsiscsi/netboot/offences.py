"""What no honest host does on the boot network, in the log with the name of who did it.

Nothing here decides: whoever asks for what is not its own gets nothing anyway. But a person should
see which host tried. A guest must not fill the log: of each host a few lines a minute are kept.
"""

from __future__ import annotations

import logging
import re
import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from cuckoo_zfsiscsi.clock import SYSTEM, Clock
from cuckoo_zfsiscsi.config import HostConfig
from cuckoo_zfsiscsi.netboot.lines import STRANGER, LineLimit

log = logging.getLogger(__name__)

LINES = 10
"""Of each kind in lines.PERIOD, of one host, and of all strangers together; more are counted."""
QUOTED = "['\"]"
"""Where what a guest has chosen begins."""
FLOOD, IN = 60, 10.0
"""So many DHCP requests in so many seconds are a flood: a machine that boots makes a dozen."""
ARP = Path("/proc/net/arp")
LINE = 100
"""Bytes in which a line of it is whole (arp_format_neigh_entry() of Linux)."""
NOBODY = "00:00:00:00:00:00"


def neighbour(address: str, table: Path = ARP, interface: str = "") -> str:
    """Return the MAC address that an address of the boot network has now, "" if not known.

    Args:
        address: of the host.
        table: the kernel's.
        interface: towards the host: what a guest of another network has told of the address does
            not count. "" for any.
    """
    try:
        lines = table.read_bytes()
    except OSError:
        return ""
    # Without a look at every line: hundreds of hosts may ask at once
    begin, wanted = 0, b"\n%s " % address.encode()
    while (begin := lines.find(wanted, begin) + 1) > 0:
        words = lines[begin : begin + LINE].decode("ascii", "replace").split(None, 6)
        if len(words) > 5 and words[3] != NOBODY and interface in ("", words[5]):
            return words[3]
    return ""


class Neighbours:
    """Tells the MAC addresses of hosts, each as its own network has it.

    Args:
        interfaces: towards each host, by its address.
    """

    def __init__(self, interfaces: Mapping[str, str]) -> None:
        self._interfaces = interfaces

    def __call__(self, address: str) -> str:
        """Return the MAC address that an address has now, "" if it is not known."""
        return neighbour(address, interface=self._interfaces.get(address, ""))


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
        self._limit = LineLimit(LINES, clock)
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, bool]] = Counter()
        self._counted_since = 0.0

    def name(self, source: str) -> str:
        """Return who has an IP or MAC address."""
        return self._names.get(source, STRANGER)

    def tell(self, source: str, what: str) -> None:
        """Write a line.

        Args:
            source: IP or MAC address of who did it.
            what: it did, in one line; what a guest chose is in quotation marks.
        """
        name = self.name(source)
        # Of each kind, as no kind shall hide another: it is what no guest has chosen
        is_written, missing = self._limit.count(f"{name} {re.split(QUOTED, what)[0].strip()}")
        for kind, number in missing.items():
            log.warning("%s ...: %d more of this", kind, number)
        if is_written:
            log.warning("%s (%s) %s", name, source, what)

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

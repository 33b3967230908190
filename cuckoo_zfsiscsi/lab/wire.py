"""The last packets of the lab's network, always: nobody knows beforehand which boot will fail."""

from __future__ import annotations

from pathlib import Path

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.lab import network as net
from cuckoo_zfsiscsi.lab.capture import LENGTH, LOGINS
from cuckoo_zfsiscsi.lab.command import HANG, last_words
from cuckoo_zfsiscsi.lab.logged import Logged

SIZE = 4
"""Millions of bytes in one file: several boots."""
FILES = 3
"""After the last one the first is written anew (tcpdump -C, -W)."""
BULK = (
    f"{LOGINS} and tcp[tcpflags] & (tcp-syn|tcp-fin|tcp-rst) = 0 and (greater {LENGTH}"
    " or ip[2:2] = ((ip[0] & 0xf) << 2) + ((tcp[12] & 0xf0) >> 2))"
)
"""What the kernel leaves out: blocks of the disk, and TCP's mere acknowledgements of them."""


class Wire:
    """Captures what goes over the lab's bridge, from start() to stop().

    Args:
        network: of the lab.
        at: directory of the lab; the packets are in wire.pcap0, wire.pcap1, ...
    """

    def __init__(self, network: net.Network, at: Path) -> None:
        self._log = at / "wire.log"
        self._daemon = Logged(
            [*network.prefix, "tcpdump", "--immediate-mode", "-U", "-n", "-Z", "root",
             "-s", str(LENGTH), "-C", str(SIZE), "-W", str(FILES),
             "-i", net.BRIDGE, "-w", str(at / "wire.pcap"), f"not ({BULK})"],
            self._log,
            at / "wire.pid",
            name="tcpdump",
            install="apt-get install tcpdump",
        )  # fmt: skip

    def start(self) -> None:
        """Start it; return when it listens.

        Raises:
            LabError, DeadlineExceededError: it does not.
        """
        self._daemon.start(Deadline(HANG), lambda: "listening on" in last_words(self._log))

    def stop(self) -> None:
        """End it. May be called again."""
        self._daemon.stop(Deadline(5.0))

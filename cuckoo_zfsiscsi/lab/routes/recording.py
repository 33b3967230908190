"""A capture of one interface for as long as a lab is up, which can be read up to this moment."""

from __future__ import annotations

import secrets
import socket
from pathlib import Path

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.lab.capture import LENGTH
from cuckoo_zfsiscsi.lab.command import HANG, last_words
from cuckoo_zfsiscsi.lab.logged import Logged
from cuckoo_zfsiscsi.lab.network import Namespace
from cuckoo_zfsiscsi.lab.watch import inside

MARK = 0x88B5
"""EtherType for experiments (IEEE 802): nobody else's, and nobody listens to it."""
NOBODY, OURS = bytes.fromhex("02000000ffff"), bytes.fromhex("020000000001")
"""MAC addresses: to, from."""
HEAD = 24
"""Bytes at the beginning of a capture, before its packets."""
PAUSE = 0.05


class Recording:
    """Captures what passes an interface, from start() to stop().

    Args:
        namespace: where the interface is.
        interface: its name.
        file: where to; the first bytes of each packet, for tcpdump and Wireshark.
        only: what is of interest, a filter (pcap-filter(7)).
    """

    def __init__(self, namespace: Namespace, interface: str, file: Path, only: str) -> None:
        self.file = file
        self._namespace = namespace
        self._interface = interface
        self._log = file.with_suffix(".log")
        self._daemon = Logged(
            [*namespace.prefix, "tcpdump", "--immediate-mode", "-U", "-n", "-Z", "root",
             "-s", str(LENGTH), "-i", interface, "-w", str(file),
             f"ether proto {MARK} or ({only})"],
            self._log,
            file.with_suffix(".pid"),
            name="tcpdump",
            install="apt-get install tcpdump",
        )  # fmt: skip

    def start(self) -> None:
        """Start it; return when it listens.

        Raises:
            LabError, DeadlineExceededError: it does not.
        """
        self._daemon.start(Deadline(HANG), lambda: "listening on" in last_words(self._log))

    def read(self) -> bytes:
        """Return the packets that have passed until now, as they are in the file behind its head.

        tcpdump writes later than packets pass. So a packet of our own goes after the others. The
        interface must be up.

        Raises:
            LabError, OSError: the interface is down or gone.
            DeadlineExceededError: tcpdump does not go on.
        """
        token = secrets.token_bytes(48)
        frame = NOBODY + OURS + MARK.to_bytes(2, "big") + token

        def send() -> None:
            with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as port:
                port.bind((self._interface, 0))
                port.send(frame)

        inside(self._namespace, send)
        deadline = Deadline(HANG)
        while token not in (content := self.file.read_bytes()):
            deadline.sleep(PAUSE, f"the capture of {self._interface}")
        return content[HEAD : content.index(token) + len(token)]

    def stop(self) -> None:
        """End it. May be called again."""
        self._daemon.stop(Deadline(5.0))

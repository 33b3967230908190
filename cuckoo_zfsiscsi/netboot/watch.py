"""Watches a boot network for what no honest host asks for: floods of DHCP, other files by TFTP.

Nor does one ask for an address in another network than its own. This sees the wire, so it sees the
same whichever server answers, the site's own included. Nothing is decided here: who floods is
answered all the same, and who asks for `../../etc/shadow` is refused.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath

from cuckoo_zfsiscsi.netboot.offences import Offences
from cuckoo_zfsiscsi.netboot.wire import DHCP, TFTP, Wire, datagram, dhcp_card, tftp_file

log = logging.getLogger(__name__)

ROUND = 0.5
"""Seconds after which it looks whether it shall end."""
BURST, REST = 64, 0.01
"""After so many packets it rests for so many seconds: a flood must not take a core. What the kernel
drops meanwhile is a flood anyway."""
USUAL = {"autoexec.ipxe", "boot.ipxe"}
"""What iPXE itself asks for, whether it is there or not."""


class Watch:
    """Writes down who does it.

    Args:
        interface: towards the hosts.
        root: returns the folder of the boot files, as it is now.
        offences: where it is written down.
        elsewhere: the interface of every host of another network, by its MAC address.
    """

    def __init__(
        self,
        interface: str,
        root: Callable[[], Path],
        offences: Offences,
        elsewhere: Mapping[str, str] | None = None,
    ) -> None:
        self._interface = interface
        self._root = root
        self._offences = offences
        self._elsewhere = elsewhere or {}
        self._end = threading.Event()
        self._thread: threading.Thread | None = None

    def open(self) -> None:
        """Begin. Where it can't be seen, the log says so once, and that is all."""
        try:
            wire = Wire(self._interface, ROUND)
        except OSError as error:
            log.warning("what hosts ask for on %s is not seen: %s", self._interface, error)
            return
        self._end.clear()
        self._thread = threading.Thread(target=self._watch, args=[wire], name="watch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End. May be called again."""
        self._end.set()
        if self._thread:
            self._thread.join()

    def _watch(self, wire: Wire) -> None:
        seen = 0
        with contextlib.closing(wire):
            while not self._end.is_set():
                try:
                    packet, sender = wire.receive()
                except OSError:  # the timeout; or the card is down for a moment
                    seen = 0
                    self._end.wait(REST)
                    continue
                self._judge(packet, sender)
                seen += 1
                if seen % BURST == 0:
                    self._end.wait(REST)

    def _judge(self, packet: bytes, sender: str) -> None:
        port, payload = datagram(packet)
        if port == DHCP and (card := dhcp_card(payload)):
            self._offences.count_dhcp(sender, card)
            if (own := self._elsewhere.get(card)) is not None:
                what = f"asks for an address on {self._interface}, but its network is that of {own}"
                self._offences.tell(card, what)
        elif port == TFTP:
            name = tftp_file(payload)
            if name is not None and not self._is_boot_file(name):
                source = ".".join(map(str, packet[12:16]))
                self._offences.tell(source, f"asks TFTP for {name[:80]!r}, which is no boot file")

    def _is_boot_file(self, name: str) -> bool:
        path = PurePosixPath(name)
        if ".." in path.parts:
            return False
        root = self._root()
        inside = path.relative_to(root) if path.is_relative_to(root) else path
        with contextlib.suppress(OSError, ValueError):  # too long, or with a zero byte in it
            return name in USUAL or (root / str(inside).lstrip("/")).is_file()
        return False

"""Ends connections to the portal that say nothing: they keep all other hosts waiting.

The kernel lets in one at a time at each portal, and waits 15 s for whoever has connected to send
the first request (iscsi_np, drivers/target/iscsi/iscsi_target_login.c). A host that is cut in the
middle of its login leaves such a connection behind, and an infected guest can make any number.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from contextlib import suppress
from threading import Event, Thread

from cuckoo_zfsiscsi.connections import TIMEOUT, established
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.target.lio_logins import Peer, cut, peers

log = logging.getLogger(__name__)

PATIENCE = 3.0
"""Seconds that a new connection may be silent: who means to log in does not wait at all."""
PERIOD = 1.0
"""Seconds between two looks."""
HEADER = 48
"""Bytes with which every request begins (RFC 7143 11.2.1)."""


class Door:
    """Looks at the portals once a second, in a thread of its own.

    Args:
        portals: addresses and TCP ports.
        names: of hosts, by address.
    """

    def __init__(self, portals: Collection[Peer], names: Mapping[str, str]) -> None:
        self._names = names
        self._heard: dict[Peer, set[Peer]] = {portal: set() for portal in portals}
        self._end = Event()
        self._thread = Thread(target=self._work, name="lio-door", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End it."""
        self._end.set()
        self._thread.join(TIMEOUT)

    def _work(self) -> None:
        while not self._end.wait(PERIOD):
            with suppress(OSError):  # the next look may see more
                for portal in self._heard:
                    self._look(*portal)

    def _look(self, portal: str, port: int) -> None:
        there, heard = peers(portal, port), self._heard[portal, port]
        heard &= there
        if there == heard:  # as nearly always: nobody has to be asked
            return
        silent = set()
        for one in established(port, own=portal):
            if one.received >= HEADER:
                heard.add((one.address, one.port))
            elif one.silent >= PATIENCE:
                silent.add((one.address, one.port))
        for address in sorted({address for address, _ in silent}):
            who = self._names.get(address, "no host of ours")
            log.warning(
                "%s (%s) holds a connection to %s:%d and says nothing: it is ended, as nobody else "
                "can log in meanwhile", address, who, portal, port,
            )  # fmt: skip
        cut(portal, port, silent, Deadline(TIMEOUT))

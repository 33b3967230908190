"""Is there still a host at the other end of an iSCSI session? Its TCP is asked, not its guest.

A host that was reset leaves its connections behind: the server learns of it when it sends something
next. So something is sent: a segment outside the window, which a live peer must answer with an
acknowledgment (RFC 9293 3.10.7.4), as a keep-alive is. What hears it is the connection itself.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address
from pathlib import Path

from cuckoo_zfsiscsi.connections import established
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.packets import ACK, Card, Filter, attach, ipv4, tcp

NUDGES, STEP = 3, 0.1
"""So many segments, so many seconds apart, must stay unanswered. An answer takes a millisecond."""
LATELY = 1.0
"""Seconds. No machine is reset and asks for its boot script in less; and a kernel answers such
segments twice a second at most (Linux: net.ipv4.tcp_invalid_ratelimit)."""
PACE = 0.25
"""Seconds between two such questions in a longer look: hundreds of hosts may be cut at once."""
LIMITED = 0.6
"""Seconds in which such a kernel answers once, for sure."""
TABLE = Path("/proc/thread-self/net/tcp")
LONGEST = 64
"""Bytes of a packet that are looked at."""


def is_held(
    portal: IPv4Address, port: int, host: IPv4Address, *, quiet: float, deadline: Deadline
) -> bool:
    """Tell whether the host still holds a connection to the portal, and answers on it.

    Args:
        portal: address of the target.
        port: of it.
        host: address of the host; connections from elsewhere are not its.
        quiet: seconds for which nothing may have come from it before it counts as gone.
        deadline: for the answer; unanswered nudges take NUDGES times STEP, or `quiet` if longer.

    Returns:
        True as soon as it is heard; False when it has no connection, or all of them are dead.

    Raises:
        OSError: not root, or the kernel can't be asked (ss of iproute2).
        DeadlineExceededError, CancelledError: not known.
    """
    nudges = 0
    while True:
        ages = connections(portal, port, host)
        if not ages:
            return False
        youngest = min(ages.values())
        if youngest < LATELY:
            return True
        if nudges >= NUDGES and youngest >= quiet:
            return False
        for number in ages:
            nudge(portal, port, host, number)
        nudges += 1
        deadline.sleep(STEP, f"asking whether {host} holds its session")


def is_heard(
    portal: IPv4Address,
    port: int,
    host: IPv4Address,
    *,
    seconds: float,
    card: Card | None = None,
    deadline: Deadline,
) -> bool:
    """Tell whether the host answers on a connection to the portal within so many seconds.

    It is asked all the time. What came before does not count; that a connection comes or goes
    meanwhile does, as that is the other end's doing.

    Args:
        portal: address of the target.
        port: of it.
        host: address of the host.
        seconds: to wait, LIMITED at least: a kernel may leave every other question unanswered.
        card: the host's: asked there, too.
        deadline: for the look.

    Returns:
        True as soon as it is heard.

    Raises:
        OSError: not root, or the kernel can't be asked (ss of iproute2).
        DeadlineExceededError, CancelledError: not known.
    """
    clock = deadline.clock
    begin = clock.monotonic()
    known: frozenset[int] = frozenset()
    while True:
        elapsed = clock.monotonic() - begin  # before the kernel tells: never too long
        ages = connections(portal, port, host)
        if known - ages.keys() or any(age < elapsed for age in ages.values()):
            return True
        if elapsed >= seconds:
            return False
        known = frozenset(ages)
        for number in known:
            nudge(portal, port, host, number, card)
        deadline.sleep(min(PACE, seconds - elapsed), f"listening for the session of {host}")


def connections(portal: IPv4Address, port: int, host: IPv4Address) -> dict[int, float]:
    """Return seconds since something came over each connection, by the host's port.

    Raises:
        OSError: the kernel can't be asked.
    """
    if not _has_any(host):
        return {}  # as for most hosts that boot; hundreds of them may ask at once
    return {one.port: one.quiet for one in established(port, own=str(portal), peer=str(host))}


class _Table:
    """The kernel's table of connections, read once for all who ask meanwhile: that takes long.

    Nobody gets one whose reading began before it asked.
    """

    def __init__(self) -> None:
        self._reading = threading.Lock()
        self._begun = 0
        self._last: tuple[int, bytes] = (0, b"")

    def read(self) -> bytes:
        """Return it. Raises OSError."""
        wanted = self._begun + 1
        with self._reading:
            if self._last[0] < wanted:
                self._begun += 1
                self._last = (self._begun, TABLE.read_bytes())
            return self._last[1]


_table = _Table()


def _has_any(host: IPv4Address) -> bool:
    """Tell whether the kernel knows of any connection with a host (proc_net_tcp)."""
    peer = f" {int.from_bytes(host.packed, sys.byteorder):08X}:"
    return peer.encode() in _table.read()


def nudge(
    portal: IPv4Address, port: int, host: IPv4Address, number: int, card: Card | None = None
) -> None:
    """Send one segment without data on the connection to this port of the host's.

    Args:
        portal: address of the target.
        port: of it.
        host: address of the host.
        number: of its port.
        card: the host's: sent straight to it, too.

    Raises:
        OSError: not root, or no way there.
    """
    sequence, acknowledged = struct.unpack("!II", os.urandom(8))
    segment = tcp(portal, host, (port, number), (sequence, acknowledged), ACK)
    if card:
        card.send(ipv4(portal, host, socket.IPPROTO_TCP, segment))
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP) as wire:
        wire.bind((str(portal), 0))
        wire.sendto(segment, (str(host), 0))


@contextmanager
def listening(portal: IPv4Address, port: int, host: IPv4Address) -> Iterator[Callable[[], bool]]:
    """Hear whatever the host sends to the portal meanwhile, of a connection or not.

    A host whose session is taken from it says so, if its kernel lives: it acknowledges the end
    (FIN), resets what it has forgotten (RST), and logs in anew (SYN). One that is off does not.

    Yields:
        What tells whether anything was heard until now.

    Raises:
        OSError: not root, or the portal is no address of ours.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP) as wire:
        attach(wire, _from_to_port(host, port))
        # Not connect(): a connected one fails with whatever ICMP error a guest forges (raw(7))
        wire.bind((str(portal), 0))

        def heard() -> bool:
            try:
                while True:
                    packet = wire.recv(LONGEST, socket.MSG_DONTWAIT)
                    if packet[12:16] == host.packed:  # what came before the filter is of anyone
                        return True
            except BlockingIOError:
                return False

        yield heard


def _from_to_port(host: IPv4Address, port: int) -> Filter:
    """Return what lets TCP from one address to one port through, from the IP header on."""
    return (
        (0x20, 0, 0, 12),  # the source
        (0x15, 0, 4, int(host)),
        (0xB1, 0, 0, 0),  # the header's length
        (0x48, 0, 0, 2),  # the port
        (0x15, 0, 1, port),
        (0x06, 0, 0, LONGEST),
        (0x06, 0, 0, 0),
    )

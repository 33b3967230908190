"""What captures show of a run's traffic (pcap(5)): who answered, and what left for the internet.

What the guest says of it does not count.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address

from cuckoo_zfsiscsi.lab.capture import LOGIN
from cuckoo_zfsiscsi.lab.routes.route import Route

INETSIM = b"\r\nServer: INetSim"
"""What INetSim's HTTP server says of itself."""
ANSWERS: Mapping[Route, str] = {"internet": "C2", "inetsim": "INetSim"}
"""Who answers the sample, by route; with the others nobody does."""


@dataclass(frozen=True)
class Packet:
    """One IPv4 packet."""

    at: float
    """Seconds since the epoch."""
    to_mac: str
    source: str
    """IP address."""
    target: str
    """IP address."""
    ports: tuple[int, int] = (0, 0)
    """Of TCP and UDP: source, destination."""
    said: bytes = b""
    """What TCP carries, its beginning."""
    is_tcp: bool = False


def packets(content: bytes) -> Iterator[Packet]:
    """Read the packets of a capture of Ethernet frames; what is no IPv4 is left out.

    Args:
        content: of the file, behind its head; the last packet may be cut off.
    """
    at = 0
    while at + 16 <= len(content):
        seconds, micro, kept, _ = struct.unpack_from("<IIII", content, at)
        frame = content[at + 16 : at + 16 + kept]
        at += 16 + kept
        if frame[12:14] == b"\x08\x00" and len(frame) >= 34:
            yield _read(seconds + micro / 1e6, frame)


def _read(at: float, frame: bytes) -> Packet:
    addresses = (str(IPv4Address(frame[26:30])), str(IPv4Address(frame[30:34])))
    length = 14 + int.from_bytes(frame[16:18], "big")  # what follows pads a short frame
    rest = frame[14 + (frame[14] & 0xF) * 4 : length]
    protocol, is_later_part = frame[23], int.from_bytes(frame[20:22], "big") & 0x1FFF
    ports, said = (0, 0), b""
    if protocol in (6, 17) and len(rest) >= 4 and not is_later_part:
        ports = (int.from_bytes(rest[:2], "big"), int.from_bytes(rest[2:4], "big"))
        if protocol == 6 and len(rest) >= 20:
            said = rest[(rest[12] >> 4) * 4 :]
    return Packet(at, frame[:6].hex(":"), *addresses, ports, said, is_tcp=protocol == 6)


@dataclass(frozen=True)
class Server:
    """An HTTP server that a sample may call."""

    what: str
    """What it is, for messages."""
    address: str
    token: bytes
    """What it alone says."""


@dataclass(frozen=True)
class Sought:
    """What is looked for."""

    gateway_mac: str
    """MAC address of the hosts' gateway."""
    line_mac: str
    """MAC address of its interface towards the internet."""
    host: str
    """Address of the host."""
    c2: Server
    inetsim: str
    """Address of INetSim, to which all names lead with that route."""
    forbidden: Sequence[Server]
    """No route may lead to them."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen, at the host's port and behind CAPE's server."""

    c2: bool = False
    """The C2 server answered the host."""
    inetsim: bool = False
    """INetSim answered it."""
    forbidden: tuple[str, ...] = ()
    """What no route may lead to, and yet answered, or was sent to the internet."""
    left: tuple[str, ...] = ()
    """Whom packets went to that left CAPE's server for the internet."""
    iscsi: int = 0
    """iSCSI packets at the host's port, of those that are kept."""
    iscsi_to_gateway: int = 0
    """Those of them that were sent to the gateway's MAC address."""

    @property
    def answered(self) -> str:
        """Who answered the sample; "" if nobody did."""
        return "C2" if self.c2 else "INetSim" if self.inetsim else ""

    def faults(self, route: Route) -> list[str]:
        """Return what must not be with this route, whatever the sample did."""
        found = [f"{one} was reached" for one in self.forbidden]
        if route != "internet":
            found += [f"packets left for the internet, to {one}" for one in self.left]
        if self.iscsi_to_gateway:
            found.append(f"{self.iscsi_to_gateway} iSCSI packets were sent to the gateway")
        return found


def look(sought: Sought, port: bytes, internet: bytes) -> Seen:
    """Return what was seen.

    Args:
        sought: what to look for.
        port: capture of the host's port.
        internet: capture of the interface by which packets leave for the internet.
    """
    c2 = inetsim = False
    reached = set[str]()
    iscsi = to_gateway = 0
    for one in packets(port):
        if one.is_tcp and any(port in LOGIN for port in one.ports):
            iscsi += 1
            to_gateway += one.to_mac == sought.gateway_mac
        if one.target == sought.host:
            c2 = c2 or sought.c2.token in one.said
            inetsim = inetsim or (one.source == sought.inetsim and INETSIM in one.said)
            reached |= {server.what for server in sought.forbidden if server.token in one.said}
    left = [one.target for one in packets(internet) if one.to_mac != sought.line_mac]
    reached |= {server.what for server in sought.forbidden if server.address in left}
    return Seen(c2, inetsim, tuple(sorted(reached)), tuple(sorted(set(left))), iscsi, to_gateway)

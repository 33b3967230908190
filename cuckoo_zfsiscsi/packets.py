"""Packets made by hand: to one network card, whatever address the kernel believes that it has."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address

ETH_IP, ETH_ARP = 0x0800, 0x0806
SO_ATTACH_FILTER = 26
SIOCETHTOOL, ETHTOOL_GLINK = 0x8946, 0x0A
TTL = 64
TCP = struct.Struct("!HHIIBBHHH")
WINDOW = 0
SYN, ACK = 0x02, 0x10
IP = struct.Struct("!BBHHHBBH4s4s")

Filter = Sequence[tuple[int, int, int, int]]
"""A program of the kernel's packet filter (linux/filter.h): code, jt, jf, k of each instruction."""


@dataclass(frozen=True, slots=True)
class Card:
    """A network card, and the interface of this server towards it."""

    interface: str
    mac: str
    """As the configuration has it: 00:11:22:33:44:55."""

    @property
    def address(self) -> bytes:
        """Its MAC address."""
        return bytes.fromhex(self.mac.replace(":", ""))

    def send(self, packet: bytes) -> None:
        """Send it an IP packet.

        A sibling that answers ARP in a host's place gets what the kernel sends to that host; this
        it does not get.

        Raises:
            OSError: not root, or there is no such interface.
        """
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as wire:
            wire.bind((self.interface, ETH_IP))
            send(wire, frame(self.address, wire, ETH_IP, packet))


def send(wire: socket.socket, packet: bytes) -> None:
    """Send a frame by a bound packet socket; by nobody's cable it goes nowhere, as it should.

    A host on a cable of its own takes the carrier with it when it goes off; the kernel has no
    queue then.

    Raises:
        OSError: it can't be sent.
    """
    try:
        wire.send(packet)
    except OSError as error:
        if error.errno != errno.ENOBUFS or _has_carrier(wire):
            raise


def _has_carrier(wire: socket.socket) -> bool:
    """Tell whether there is anything at the other end of the cable (linux/ethtool.h).

    Not by the interface's flags: they follow up to a second late.
    """
    value = ctypes.create_string_buffer(struct.pack("II", ETHTOOL_GLINK, 0))
    name = wire.getsockname()[0].encode()
    try:
        fcntl.ioctl(wire, SIOCETHTOOL, struct.pack("16sP", name, ctypes.addressof(value)))
    except OSError:  # it does not know
        return True
    return bool(struct.unpack("II", value.raw[:8])[1])


def frame(target: bytes, wire: socket.socket, kind: int, payload: bytes) -> bytes:
    """Return an Ethernet frame from a bound packet socket's own interface."""
    source: bytes = wire.getsockname()[4]
    return target + source + struct.pack("!H", kind) + payload


def ipv4(source: IPv4Address, target: IPv4Address, protocol: int, payload: bytes) -> bytes:
    """Return an IPv4 packet (RFC 791)."""
    fields = [4 << 4 | 5, 0, IP.size + len(payload), 0, 0, TTL, protocol, 0]
    addresses = source.packed, target.packed
    fields[7] = checksum(IP.pack(*fields, *addresses))
    return IP.pack(*fields, *addresses) + payload


def tcp(
    source: IPv4Address, target: IPv4Address, ports: tuple[int, int], numbers: tuple[int, int],
    flags: int,
) -> bytes:  # fmt: skip
    """Return a TCP segment without data (RFC 9293).

    Args:
        source: address of it, as the checksum knows it.
        target: likewise.
        ports: of source and target.
        numbers: sequence and acknowledgment.
        flags: of TCP's header.
    """
    fields = [*ports, *numbers, 5 << 4, flags, WINDOW, 0, 0]
    pseudo = struct.pack("!4s4sxBH", source.packed, target.packed, socket.IPPROTO_TCP, TCP.size)
    fields[7] = checksum(pseudo + TCP.pack(*fields))
    return TCP.pack(*fields)


def checksum(data: bytes) -> int:
    """Return the internet checksum (RFC 1071) of an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def attach(wire: socket.socket, program: Filter) -> None:
    """Have the kernel drop what a socket is not for. It sees what it filters.

    Raises:
        OSError: that is no program.
    """
    code = b"".join(struct.pack("HBBI", *one) for one in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    arguments = struct.pack("HP", len(program), ctypes.addressof(buffer))
    wire.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, arguments)

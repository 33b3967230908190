"""Who answers for a host's address: each way looked at for a time, without the host's help.

What is asked goes to the host's own card, whoever else says that the address is his: a sibling that
answers ARP in its place is not to be mistaken for it, nor to hide it.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Callable
from ipaddress import IPv4Address

from cuckoo_zfsiscsi.packets import (
    ETH_ARP,
    ETH_IP,
    SYN,
    TCP,
    Card,
    Filter,
    attach,
    checksum,
    frame,
    ipv4,
    send,
    tcp,
)

REQUEST, REPLY = 1, 2
ARP = struct.Struct("!HHBBH6s4s6s4s")
ETHERNET = 14
"""Bytes of the header of a frame."""
ECHO, ECHO_REPLY = 8, 0
ANYONE = bytes.fromhex("ffffffffffff")
NOBODY = bytes(6)
LONGEST = 2048
AGAIN = 0.25
"""Seconds after which they are asked again: packets are lost."""
UNREAD = 1000
"""Packets that are looked at after the time is up: no more can lie there, but more may come."""


def arp(card: Card, own: IPv4Address, address: IPv4Address, seconds: float) -> frozenset[str]:
    """Ask for so many seconds who has an address of this network, everybody and the card itself.

    Args:
        card: that should have it, in whose network it is.
        own: the server's address there.
        address: that is asked for.
        seconds: to wait for answers; the card's own ends it.

    Returns:
        The MAC addresses of all who answered.

    Raises:
        OSError: not root, or there is no such interface.
    """
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_ARP)) as wire:
        wire.bind((card.interface, ETH_ARP))
        mac = wire.getsockname()[4]
        query = ARP.pack(1, ETH_IP, 6, 4, REQUEST, mac, own.packed, NOBODY, address.packed)

        def ask() -> None:
            for target in (ANYONE, card.address):
                send(wire, frame(target, wire, ETH_ARP, query))

        def who(packet: bytes) -> str:
            if len(packet) < ETHERNET + ARP.size:
                return ""
            fields = ARP.unpack_from(packet, ETHERNET)
            return _sender(packet) if fields[4] == REPLY and fields[6] == address.packed else ""

        return _collect(wire, ask, who, seconds, card.mac)


def ping(card: Card, own: IPv4Address, address: IPv4Address, seconds: float) -> frozenset[str]:
    """Send the card ICMP echo requests for its address, for so many seconds.

    Args:
        card: of the host.
        own: the server's address in its network.
        address: the host's.
        seconds: to wait for answers; the card's own ends it.

    Returns:
        The MAC addresses of all who answered.

    Raises:
        OSError: not root, or there is no such interface.
    """
    mark = os.urandom(8)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as wire:  # deaf until bound
        attach(wire, _from(address, socket.IPPROTO_ICMP))
        wire.bind((card.interface, ETH_IP))
        head = struct.pack("!BBHHH", ECHO, 0, 0, os.getpid() & 0xFFFF, 1)
        echo = head[:2] + struct.pack("!H", checksum(head + mark)) + head[4:] + mark
        query = frame(card.address, wire, ETH_IP, ipv4(own, address, socket.IPPROTO_ICMP, echo))

        def who(packet: bytes) -> str:
            start = ETHERNET + (packet[ETHERNET] & 0x0F) * 4
            is_reply = packet[start : start + 1] == bytes([ECHO_REPLY])
            return _sender(packet) if is_reply and mark in packet[start:] else ""

        return _collect(wire, lambda: send(wire, query), who, seconds, card.mac)


def connect(
    card: Card, own: IPv4Address, address: IPv4Address, port: int, seconds: float
) -> frozenset[str]:
    """Ask the card for a TCP connection, for so many seconds. It is never made.

    Args:
        card: of the host.
        own: the server's address in its network.
        address: the host's.
        port: of the host.
        seconds: to wait for answers; the card's own ends it.

    Returns:
        The MAC addresses of all who would have taken it. One that refuses is not among them.

    Raises:
        OSError: not root, or there is no such interface.
    """
    here, number = struct.unpack("!HI", os.urandom(6))
    here |= 0x8000
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as wire:  # deaf until bound
        attach(wire, _from(address, socket.IPPROTO_TCP))
        wire.bind((card.interface, ETH_IP))
        syn = tcp(own, address, (here, port), (number, 0), SYN)
        query = frame(card.address, wire, ETH_IP, ipv4(own, address, socket.IPPROTO_TCP, syn))

        def who(packet: bytes) -> str:
            start = ETHERNET + (packet[ETHERNET] & 0x0F) * 4
            if len(packet) < start + TCP.size:
                return ""
            there, to, _, answered, _, flags, *_ = TCP.unpack_from(packet, start)
            is_answer = (there, to, answered) == (port, here, (number + 1) & 0xFFFFFFFF)
            return _sender(packet) if is_answer and flags & SYN else ""

        return _collect(wire, lambda: send(wire, query), who, seconds, card.mac)


def _from(address: IPv4Address, protocol: int) -> Filter:
    """Return what lets one protocol from one address through, from the Ethernet header on."""
    return (
        (0x20, 0, 0, ETHERNET + 12),  # the source
        (0x15, 0, 3, int(address)),
        (0x30, 0, 0, ETHERNET + 9),  # the protocol
        (0x15, 0, 1, protocol),
        (0x06, 0, 0, LONGEST),
        (0x06, 0, 0, 0),
    )


def _sender(packet: bytes) -> str:
    return packet[6:12].hex(":")


def _collect(
    wire: socket.socket,
    ask: Callable[[], object],
    who: Callable[[bytes], str],
    seconds: float,
    enough: str,
) -> frozenset[str]:
    """Ask now and then; return who answers in time, however late a busy server looks at it."""
    found = set[str]()
    now = time.monotonic()
    end, due, late = now + seconds, now, 0
    while late < UNREAD and enough not in found:
        now = time.monotonic()
        if due <= now < end:
            ask()
            due = now + AGAIN
        late += now >= end
        wire.settimeout(max(0.0, min(due, end) - now))  # 0: what lies there, and no wait
        try:
            found.add(who(wire.recv(LONGEST)))
        except (TimeoutError, BlockingIOError):
            if now >= end:
                break
    return frozenset(found - {""})

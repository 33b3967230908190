"""Signs of life that a host can't easily hide: each looked for once, without the host's help."""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Callable
from ipaddress import IPv4Address

from cuckoo_zfsiscsi.connections import established

ETH_ARP = 0x0806
REQUEST, REPLY = 1, 2
ARP = struct.Struct("!6s6sHHHBBH6s4s6s4s")
ECHO, ECHO_REPLY = 8, 0
ANYONE = bytes.fromhex("ffffffffffff")
NOBODY = bytes(6)
UNREAD = 1000
"""Packets that are looked at after the time is up: no more can lie there, but more may come."""


def answers_arp(interface: str, own: IPv4Address, address: IPv4Address, seconds: float) -> bool:
    """Ask who has the address, on this network.

    Args:
        interface: the server's, towards the host.
        own: the server's address there.
        address: the host's.
        seconds: to wait for an answer.

    Raises:
        OSError: not root, or there is no such interface.
    """
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_ARP)) as wire:
        wire.bind((interface, ETH_ARP))
        mac = wire.getsockname()[4]
        query = (ANYONE, mac, ETH_ARP, 1, 0x0800, 6, 4, REQUEST, mac, own.packed, NOBODY)
        wire.send(ARP.pack(*query, address.packed))

        def is_answer(frame: bytes) -> bool:
            if len(frame) < ARP.size:
                return False
            fields = ARP.unpack_from(frame)
            return bool(fields[7] == REPLY and fields[9] == address.packed)

        return _await(wire, is_answer, seconds)


def answers_ping(address: IPv4Address, seconds: float) -> bool:
    """Send one ICMP echo request, and wait so many seconds for its answer.

    Raises:
        OSError: not root, or no way there.
    """
    mark = os.urandom(8)
    head = struct.pack("!BBHHH", ECHO, 0, 0, os.getpid() & 0xFFFF, 1)
    packet = head[:2] + struct.pack("!H", _checksum(head + mark)) + head[4:] + mark
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as wire:
        wire.sendto(packet, (str(address), 0))

        def is_answer(got: bytes) -> bool:
            start = (got[0] & 0x0F) * 4 if got else 0
            is_reply = got[start : start + 1] == bytes([ECHO_REPLY])
            return is_reply and got[12:16] == address.packed and got.endswith(mark)

        return _await(wire, is_answer, seconds)


def heard_by_tcp(address: IPv4Address, port: int, seconds: float) -> bool:
    """Tell whether a TCP connection from the host to a port of ours brought anything lately.

    A connection alone shows nothing: it outlives a host whose power was cut.

    Args:
        address: the host's.
        port: ours.
        seconds: what "lately" is.

    Raises:
        OSError: the kernel can't be asked (ss of iproute2).
    """
    return any(one.quiet < seconds for one in established(port, peer=str(address)))


def _await(wire: socket.socket, is_answer: Callable[[bytes], bool], seconds: float) -> bool:
    """Wait for an answer. What came in time counts, though a busy server looks at it late."""
    end, late = time.monotonic() + seconds, 0
    while late < UNREAD:
        left = end - time.monotonic()
        late += left <= 0
        wire.settimeout(max(0.0, left))  # 0: what lies there, and no wait
        try:
            if is_answer(wire.recv(2048)):
                return True
        except (TimeoutError, BlockingIOError):
            return False
    return False


def _checksum(data: bytes) -> int:
    """Return the internet checksum (RFC 1071) of an even number of bytes."""
    words: tuple[int, ...] = struct.unpack(f"!{len(data) // 2}H", data)
    total = sum(words)
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF

"""Frames, byte by byte: Ethernet, ARP (RFC 826), IPv4, UDP, TCP, ICMP, DHCP (RFC 2131)."""

from __future__ import annotations

import os
import socket
import struct

EVERYONE = 6 * b"\xff"
IPV4, ARP, IPV6, VLAN = 0x0800, 0x0806, 0x86DD, 0x8100
NOBODY, ALL = "0.0.0.0", "255.255.255.255"  # noqa: S104 - of a client without an address
IPXE = b"\x4d\x04iPXE\xaf\0"
"""Its user class, and its own options."""
REQUEST, REPLY = 1, 2
DISCOVER, OFFER, ASK, DECLINE, ACK, NAK, RELEASE, INFORM = range(1, 9)


def hardware(mac: str) -> bytes:
    """Return a MAC address as it is in a frame."""
    return bytes.fromhex(mac.replace(":", ""))


def made_up() -> bytes:
    """Return a MAC address of nobody."""
    return b"\x02" + os.urandom(5)


def ethernet(to: bytes, source: bytes, kind: int, payload: bytes) -> bytes:
    """Return a frame, of the least length at least."""
    return (to + source + struct.pack("!H", kind) + payload).ljust(60, b"\0")


def arp(
    source: bytes, ip: str, *, kind: int = REPLY, of: str = "", to: bytes = EVERYONE, asks: str = ""
) -> bytes:
    """Return an ARP frame: `ip` is at `source`.

    Args:
        source: MAC address that sends it, and that it tells of.
        ip: address that it tells of.
        kind: REQUEST or REPLY.
        of: MAC address that sends it, if another one.
        to: whom.
        asks: address that it asks for; by default that which it tells of.
    """
    sender = hardware(of) if of else source
    peer = bytes(6) if kind == REQUEST else to
    body = struct.pack("!HHBBH", 1, IPV4, 6, 4, kind) + source + socket.inet_aton(ip)
    return ethernet(to, sender, ARP, body + peer + socket.inet_aton(asks or ip))


def checksum(data: bytes) -> int:
    """Return the Internet's (RFC 1071)."""
    data += b"\0" * (len(data) % 2)
    total = int(sum(struct.unpack(f"!{len(data) // 2}H", data)))
    while total >> 16:
        total = (total >> 16) + (total & 0xFFFF)
    return ~total & 0xFFFF


def ipv4(source: str, to: str, protocol: int, payload: bytes, *, fragment: int = 0) -> bytes:
    """Return a packet.

    Args:
        source: address.
        to: address.
        protocol: of the payload.
        payload: of the packet.
        fragment: flags and offset.
    """
    ends = socket.inet_aton(source) + socket.inet_aton(to)
    number = int.from_bytes(os.urandom(2), "big")
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), number, fragment, 64, protocol, 0)
    total = checksum(head + ends)
    return head[:10] + struct.pack("!H", total) + ends + payload


def udp(source: str, to: str, sport: int, dport: int, payload: bytes) -> bytes:
    """Return a packet. Without a checksum, which is allowed."""
    head = struct.pack("!HHHH", sport, dport, 8 + len(payload), 0)
    return ipv4(source, to, socket.IPPROTO_UDP, head + payload)


def tcp(
    source: str, to: str, sport: int, dport: int, flags: int, *, number: int = 0, ack: int = 0,
    payload: bytes = b"",
) -> bytes:  # fmt: skip
    """Return a segment.

    Args:
        source: address.
        to: address.
        sport: port.
        dport: port.
        flags: 1 FIN, 2 SYN, 4 RST, 8 PSH, 16 ACK.
        number: sequence number.
        ack: the other end's that is acknowledged.
        payload: of the segment.
    """
    head = struct.pack("!HHIIBBHHH", sport, dport, number, ack, 0x50, flags, 8192, 0, 0)
    size = len(head) + len(payload)
    ends = socket.inet_aton(source) + socket.inet_aton(to)
    total = checksum(ends + struct.pack("!BBH", 0, socket.IPPROTO_TCP, size) + head + payload)
    head = head[:16] + struct.pack("!H", total) + head[18:]
    return ipv4(source, to, socket.IPPROTO_TCP, head + payload)


def icmp(source: str, to: str, kind: int, code: int, payload: bytes) -> bytes:
    """Return a packet: kind, code, and all that comes after the checksum."""
    body = struct.pack("!BBH", kind, code, 0) + payload
    body = body[:2] + struct.pack("!H", checksum(body)) + body[4:]
    return ipv4(source, to, socket.IPPROTO_ICMP, body)


def bootp(
    chaddr: bytes, options: bytes, *, reply: bool = False, ciaddr: str = NOBODY,
    yiaddr: str = NOBODY, siaddr: str = NOBODY, file: bytes = b"", number: bytes = b"",
) -> bytes:  # fmt: skip
    """Return a message of DHCP, without its packet.

    Args:
        chaddr: MAC address of the client.
        options: each with code and length; their end is added.
        reply: a server sends it.
        ciaddr: address that the client has.
        yiaddr: address that it is given.
        siaddr: where it loads its boot file from.
        file: name of that.
        number: of the transaction, one of its own by default.
    """
    ends = b"".join(socket.inet_aton(one) for one in (ciaddr, yiaddr, siaddr, NOBODY))
    head = struct.pack("!BBBB", 2 if reply else 1, 1, 6, 0) + (number or os.urandom(4))
    head += struct.pack("!HH", 0, 0x8000) + ends
    body = head + chaddr.ljust(16, b"\0") + bytes(64) + file.ljust(128, b"\0")
    return (body + bytes.fromhex("63825363") + options + b"\xff").ljust(300, b"\0")


def option(code: int, data: bytes) -> bytes:
    """Return an option of DHCP."""
    return bytes([code, len(data)]) + data


def dhcp(
    chaddr: bytes, kind: int, options: bytes = b"", *, source: bytes = b"", **more: str
) -> bytes:
    """Return a frame of a client.

    Args:
        chaddr: MAC address that it asks for.
        kind: DISCOVER, ...
        options: more of them.
        source: MAC address that sends it, if another one.
        more: as bootp() has it.
    """
    message = bootp(chaddr, option(53, bytes([kind])) + options, **more)  # type: ignore[arg-type]
    packet = udp(NOBODY, ALL, 68, 67, message)
    return ethernet(EVERYONE, source or chaddr, IPV4, packet)


def address(ip: str) -> bytes:
    """Return an IPv4 address as it is in a packet."""
    return socket.inet_aton(ip)

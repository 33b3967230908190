"""TCP, UDP, ICMP and IPv6 beside their proper use."""

from __future__ import annotations

import random
import socket
import struct

from tests.attacks import frames
from tests.attacks.infected import Infected, Peer
from tests.attacks.moves import primitive

SYN, RST, PUSH, ACK = 2, 4, 8, 16


def to_server(me: Infected, *packets: bytes) -> None:
    server = me.server_mac()
    me.send(*(frames.ethernet(server, me.own.hardware, frames.IPV4, one) for one in packets))


def service_port(me: Infected, host: Peer, dice: random.Random) -> int:
    """Choose one of those that a host has to do with."""
    return dice.choice((me.knows.boot_port, me.knows.disk_port(host), me.knows.control_port))


@primitive("ip.syn")
def syn(me: Infected, dice: random.Random) -> str:
    """Begin TCP connections that are never ended, from its own address and from those of nobody."""
    net, count = me.own.ip.rpartition(".")[0], dice.randrange(20, 300)
    sources = [me.own.ip, *(f"{net}.{dice.randrange(2, 255)}" for _ in range(5))]
    to_server(me, *(
        frames.tcp(dice.choice(sources), me.knows.server, dice.randrange(1024, 65536),
                   service_port(me, me.own, dice), SYN, number=dice.getrandbits(32))
        for _ in range(count)
    ))  # fmt: skip
    return f"{count} connections"


@primitive("ip.as-sibling", takes_place=True)
def as_sibling(me: Infected, dice: random.Random) -> str:
    """Send segments into a sibling's connections, by chance: resets, ends, data."""
    victim = me.victim(dice)
    source = dice.choice((me.own.hardware, victim.hardware))
    sent = [
        frames.tcp(victim.ip, me.knows.server, dice.randrange(32768, 61000),
                   service_port(me, victim, dice),
                   dice.choice((RST, RST | ACK, ACK | PUSH, 1 | ACK)), number=dice.getrandbits(32),
                   ack=dice.getrandbits(32), payload=dice.randbytes(dice.randrange(60)))
        for _ in range(dice.randrange(20, 200))
    ]  # fmt: skip
    server = me.server_mac()
    me.send(*(frames.ethernet(server, source, frames.IPV4, one) for one in sent))
    return victim.label


@primitive("ip.as-server", takes_place=True)
def as_server(me: Infected, dice: random.Random) -> str:
    """Reset a sibling's connections in the server's name, by chance."""
    victim = me.victim(dice)
    sent = [
        frames.tcp(me.knows.server, victim.ip, service_port(me, victim, dice),
                   dice.randrange(32768, 61000),
                   RST | ACK, number=dice.getrandbits(32), ack=dice.getrandbits(32))
        for _ in range(dice.randrange(20, 200))
    ]  # fmt: skip
    me.send(*(frames.ethernet(victim.hardware, me.own.hardware, frames.IPV4, one) for one in sent))
    return victim.label


@primitive("ip.ports")
def ports(me: Infected, dice: random.Random) -> str:
    """Say something to any port of the server, by TCP and UDP."""
    opened = []
    for _ in range(dice.randrange(1, 4)):
        port = dice.choice(
            (22, 80, 111, 135, 443, 860, 2042, 3128, 5044, 8000, dice.randrange(1, 65536))
        )
        try:
            with me.connect(me.knows.server, port) as one:
                opened.append(port)
                one.sendall(dice.randbytes(200))
        except OSError:
            continue
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        for _ in range(50):
            one.sendto(
                dice.randbytes(dice.randrange(1200)), (me.knows.server, dice.randrange(1, 65536))
            )
    assert not opened, f"the server's ports {opened} are open to it"
    return ""


@primitive("ip.icmp")
def icmp(me: Infected, dice: random.Random) -> str:
    """Ping, redirect, and report what is unreachable, too big, or out of time."""
    victim = me.victim(dice)
    inner = frames.tcp(me.knows.server, victim.ip, me.knows.disk_port(victim), 40000, ACK)[:28]
    gateway = frames.address(me.own.ip)
    sent = []
    for _ in range(dice.randrange(10, 100)):
        kind, rest = dice.choice((
            (8, dice.randbytes(dice.randrange(4, 1400))), (5, gateway + inner),
            (3, bytes(4) + inner),
            (4, bytes(4) + inner), (11, bytes(4) + inner), (3, struct.pack("!HH", 0, 68) + inner),
            (13, bytes(16)), (17, bytes(8)),
        ))  # fmt: skip
        source = dice.choice((me.own.ip, victim.ip, "127.0.0.1"))
        sent.append(frames.icmp(source, me.knows.server, kind, dice.randrange(6), rest))
    to_server(me, *sent)
    return ""


@primitive("ip.fragments")
def fragments(me: Infected, dice: random.Random) -> str:
    """Send fragments that overlap, and that are never complete."""
    sent = [
        frames.ipv4(me.own.ip, me.knows.server, dice.choice((6, 17, 1)), dice.randbytes(64),
                    fragment=dice.choice((0x2000, 0x2001, 0x0001, 0x1FFF)))
        for _ in range(dice.randrange(20, 300))
    ]  # fmt: skip
    to_server(me, *sent)
    return f"{len(sent)} fragments"


@primitive("ip.nonsense")
def nonsense(me: Infected, dice: random.Random) -> str:
    """Send packets whose lengths, versions and protocols are wrong."""
    sent = []
    for _ in range(dice.randrange(10, 100)):
        packet = bytearray(frames.udp(me.own.ip, me.knows.server, 68, 69, dice.randbytes(40)))
        for _ in range(dice.randrange(1, 5)):
            packet[dice.randrange(20)] = dice.randrange(256)
        sent.append(bytes(packet))
    to_server(me, *sent)
    return ""


@primitive("ip.router", takes_place=True)
def router(me: Infected, dice: random.Random) -> str:
    """Advertise itself as everybody's IPv6 router (RFC 4861)."""
    sent = []
    for _ in range(dice.randrange(1, 20)):
        prefix = b"\xfd" + dice.randbytes(7) + bytes(8)
        told = struct.pack("!BBHII", 64, dice.choice((0, 0xC0)), 1800, 0, 0)
        told += struct.pack("!BBBBIII", 3, 4, 64, 0xC0, 1800, 1800, 0) + prefix
        source = bytes.fromhex("fe80") + bytes(6) + dice.randbytes(8)
        to = bytes.fromhex("ff02") + bytes(13) + b"\x01"
        size = 4 + len(told)
        total = frames.checksum(source + to + struct.pack("!II", size, 58) + b"\x86\0\0\0" + told)
        body = b"\x86\0" + struct.pack("!H", total) + told
        packet = struct.pack("!IHBB", 6 << 28, size, 58, 255) + source + to + body
        everyone = bytes.fromhex("333300000001")
        sent.append(frames.ethernet(everyone, me.own.hardware, frames.IPV6, packet))
    me.send(*sent)
    return f"{len(sent)} advertisements"


@primitive("ip.bmc")
def bmc(me: Infected, dice: random.Random) -> str:
    """Knock at power devices, through the server: IPMI's discovery, Redfish, telnet."""
    address = dice.choice(me.knows.bmcs)
    ping = bytes.fromhex("0600ff06000011be80000000")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.settimeout(0.2)
        one.sendto(ping, (address, 623))
        try:
            said = one.recv(200)
        except OSError:
            return f"{address} says nothing"
    raise AssertionError(f"{address} has answered: {said.hex()}")

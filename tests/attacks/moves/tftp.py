"""TFTP (RFC 1350, options of RFC 2347)."""

from __future__ import annotations

import random
import socket
import struct

from tests.attacks.infected import BRIEF, HELD, Infected
from tests.attacks.moves import primitive

READ, WRITE, DATA, ACK, ERROR = range(1, 6)
NAMES = ("undionly.kpxe", "ipxe.efi", "snponly.efi")
ELSEWHERE = (
    "../../../etc/passwd", "/etc/shadow", "..\\..\\etc\\passwd", "pc2.ipxe", "boot.ipxe",
    "/var/lib/zfsiscsi/images", "ipxe.efi/../../../../etc/hostname", "%2e%2e/%2e%2e/etc/passwd",
)  # fmt: skip


def request(code: int, name: bytes, *options: bytes) -> bytes:
    words = (name, b"octet", *options)
    return struct.pack("!H", code) + b"".join(word + b"\0" for word in words)


def peer() -> socket.socket:
    one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    one.settimeout(BRIEF)
    return one


@primitive("tftp.read")
def read(me: Infected, dice: random.Random) -> str:
    """Load a boot file, or the beginning of it."""
    last = dice.randrange(1, 200)
    with peer() as one:
        one.sendto(request(READ, dice.choice(NAMES).encode()), (me.knows.server, 69))
        for number in range(1, last):
            answer, where = one.recvfrom(2048)
            if answer[1] != DATA or len(answer) < 516:
                return f"{number} packets, the last is {answer[:2].hex()}"
            one.sendto(struct.pack("!HH", ACK, number), where)
    return f"given up after {last}"


@primitive("tftp.elsewhere")
def elsewhere(me: Infected, dice: random.Random) -> str:
    """Ask for what is no boot file."""
    name = dice.choice((*ELSEWHERE, "A" * 600))
    with peer() as one:
        one.sendto(request(READ, name.encode()), (me.knows.server, 69))
        answer = one.recv(2048)
    assert b"root:" not in answer, answer
    return f"{name[:20]}: {answer[1]}"


@primitive("tftp.abandon")
def abandon(me: Infected, dice: random.Random) -> str:
    """Begin transfers and acknowledge nothing: each keeps a place for as long as it is repeated."""
    count = dice.randrange(1, min(70, HELD))
    for _ in range(count):
        one = peer()
        one.sendto(request(READ, dice.choice(NAMES).encode()), (me.knows.server, 69))
        me.hold(one)
    return f"{count} transfers"


@primitive("tftp.options")
def options(me: Infected, dice: random.Random) -> str:
    """Ask with options that are too large, negative, or no numbers."""
    values = (b"0", b"-1", b"65536", b"99999999999999999999", b"x", b"", b"1", b"\xff" * 300)
    with peer() as one:
        for _ in range(dice.randrange(1, 10)):
            names = dice.choices((b"blksize", b"tsize", b"timeout", b"windowsize", b"\0"), k=3)
            more = [word for name in names for word in (name, dice.choice(values))]
            one.sendto(request(READ, dice.choice(NAMES).encode(), *more), (me.knows.server, 69))
        return one.recv(2048)[:2].hex()


@primitive("tftp.nonsense")
def nonsense(me: Infected, dice: random.Random) -> str:
    """Write a file, acknowledge what nobody sent, report errors, and say what means nothing."""
    with peer() as one:
        for _ in range(dice.randrange(1, 40)):
            code = dice.choice((WRITE, DATA, ACK, ERROR, 0, 6, 65535))
            packet = request(code, dice.randbytes(dice.randrange(60)))
            one.sendto(packet[: dice.randrange(1, len(packet) + 1)], (me.knows.server, 69))
    return ""

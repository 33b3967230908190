"""iSCSI (RFC 7143): logins, sessions and PDUs."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from dataclasses import replace

from tests.attacks.infected import Infected
from tests.attacks.moves import primitive
from tests.attacks.pdus import Sender, header
from tests.iscsi import LoginError

MOST_GENERATIONS = 50
"""That are tried: the names of a disk have its number."""


def hold(me: Infected, count: int, begin: Callable[[Sender], object]) -> str:
    """Begin something over so many connections that stay open."""
    for _ in range(count):
        with me.initiator(held=True) as one:
            begin(one)
    return f"{count} connections"


def read_sector(one: Sender, lba: int = 0) -> bytes:
    one.command(struct.pack(">BBQIBB", 0x88, 0, lba, 1, 0, 0), expected=512)
    return one.answer()[1]


@primitive("iscsi.own")
def own(me: Infected, dice: random.Random) -> str:
    """Log in to its own disk a second time, and read and write there."""
    with me.session() as one:
        read_sector(one)
        cdb = struct.pack(">BBQIBB", 0x8A, 0, dice.randrange(1, 4096), 1, 0, 0)
        one.command(cdb, flags=0xA0, expected=512, data=dice.randbytes(512))
        return f"answer {one.answer()[0][:4].hex()}"


@primitive("iscsi.sibling")
def sibling(me: Infected, dice: random.Random) -> str:
    """Log in to a sibling's target, by its names as far as they can be guessed."""
    theirs, mine = me.guess(me.victim(dice)), me.secret()
    who = dice.choice((theirs.credentials, mine.credentials))
    with me.initiator(replace(theirs, credentials=who)) as one:
        one.security()
        raise AssertionError(f"{theirs.target} has let {who.initiator} in")


@primitive("iscsi.begin")
def begin(me: Infected, dice: random.Random) -> str:
    """Begin a login at a sibling's target under the sibling's name, and leave it there."""
    victim = me.victim(dice)
    for generation in range(1, MOST_GENERATIONS):
        with me.initiator(me.guess(victim, generation), held=True) as one:
            try:
                one.begin()
            except LoginError:
                continue
            return f"{victim.label}, generation {generation}"
    return f"{victim.label}: no name was taken"


@primitive("iscsi.names")
def names(me: Infected, dice: random.Random) -> str:
    """Log in under names of nobody, to targets that are not there."""
    own = me.secret()
    name = dice.choice((own.credentials.initiator, "iqn.2026-01.org.example:x", "a" * 223, ""))
    target = dice.choice((own.target, own.target + "x", f"{me.knows.iqn}:pc99", "", "x" * 223))
    export = replace(own, target=target, credentials=replace(own.credentials, initiator=name))
    with me.initiator(export) as one:
        one.begin()
    return "begun"


@primitive("iscsi.secret")
def secret(me: Infected, dice: random.Random) -> str:
    """Log in to its own disk with a wrong secret, again and again."""
    own = me.secret()
    wrong = replace(own, credentials=replace(own.credentials, secret="0123456789abcdef"))
    refused = 0
    for _ in range(dice.randrange(1, 10)):
        with me.initiator(wrong) as one:
            try:
                one.security()
            except LoginError:
                refused += 1
            else:
                raise AssertionError("a wrong secret was taken")
    return f"{refused} refused"


@primitive("iscsi.half-header")
def half_header(me: Infected, dice: random.Random) -> str:
    """Send the header of a login that promises 4096 more bytes, over some connections."""
    return hold(
        me,
        dice.randrange(1, 12),
        lambda one: one.socket.sendall(header(0x43, 0, 4096, one.session, 1, 0, 0, 0)),
    )


@primitive("iscsi.first-login")
def first_login(me: Infected, dice: random.Random) -> str:
    """Send the first PDU of a login, and nothing else, over some connections."""
    return hold(me, dice.randrange(1, 12), Sender.begin)


@primitive("iscsi.silent")
def silent(me: Infected, dice: random.Random) -> str:
    """Connect to the portal, and say nothing or a few bytes."""
    return hold(
        me,
        dice.randrange(1, 40),
        lambda one: one.socket.sendall(b"\x43" * dice.randrange(48)),
    )


@primitive("iscsi.sessions")
def sessions(me: Infected, dice: random.Random) -> str:
    """Log in to its own disk many times, and keep every session."""
    count = dice.randrange(2, 25)
    for _ in range(count):
        with me.session(held=True):
            pass
    return f"{count} sessions"


@primitive("iscsi.reinstate")
def reinstate(me: Infected, dice: random.Random) -> str:
    """Log in again as a session that is open: the second ends the first (RFC 7143 6.3.5)."""
    isid = dice.getrandbits(40)
    for _ in range(dice.randrange(2, 6)):
        with me.initiator(held=True) as one:
            one.isid = isid
            one.security()
            one.finish()
    return ""


@primitive("iscsi.discover")
def discover(me: Infected, dice: random.Random) -> str:
    """Ask for all targets (SendTargets)."""
    name = dice.choice((me.secret().credentials.initiator, "iqn.2026-01.org.example:any"))
    with me.initiator() as one:
        told = one.discover(name)
    theirs = [victim.label for victim in me.knows.siblings if victim.label.encode() in told]
    assert not theirs, f"it is told of {theirs}: {told!r}"
    return f"{len(told)} bytes"


@primitive("iscsi.tasks")
def tasks(me: Infected, dice: random.Random) -> str:
    """Abort tasks, reset the LUN and the target, cold and warm, and say NOP in between."""
    with me.session() as one:
        for tag in range(1, dice.randrange(2, 20)):
            what, number = dice.randrange(0x81, 0x89), one.sequence
            if dice.random() < 0.3:
                text = dice.randbytes(dice.randrange(64) * 4)
                head = header(0x40, 0x80, len(text), bytes(8), tag, 0xFFFFFFFF, number, 1)
                one.socket.sendall(head + text)
            else:
                rest = struct.pack(">II8x", 0, 0)
                head = header(0x42, what, 0, one.lun, tag, dice.getrandbits(32), number, 1, rest)
                one.socket.sendall(head)
        return one.answer()[0][:4].hex()


@primitive("iscsi.data-out")
def data_out(me: Infected, dice: random.Random) -> str:
    """Send data that nobody has asked for, for a task that wants less, or that there is not."""
    with me.session() as one:
        cdb = struct.pack(">BBQIBB", 0x8A, 0, 0, 8, 0, 0)
        one.command(cdb, flags=0xA0, expected=4096, tag=7)
        for _ in range(dice.randrange(1, 5)):
            data = dice.randbytes(dice.choice((512, 4096, 8192, 65536)))
            tag, offset = dice.choice((7, 8, 0xFFFFFFFF)), dice.choice((0, 4096, 1 << 31))
            rest = struct.pack(">4xII4x", dice.randrange(4), offset)
            flags, ttt = dice.choice((0, 0x80)), dice.choice((1, 0xFFFFFFFF))
            head = header(0x05, flags, len(data), one.lun, tag, ttt, 0, 1, rest)
            one.socket.sendall(head + data)
        return one.answer()[0][:4].hex()


@primitive("iscsi.immediate")
def immediate(me: Infected, dice: random.Random) -> str:
    """Send more data with a WRITE than it says that it writes."""
    with me.session() as one:
        expected = dice.choice((0, 512, 4096))
        data = dice.randbytes(expected + dice.choice((1, 512, 8192, 65536)))
        cdb = struct.pack(">BBQIBB", 0x8A, 0, 0, expected // 512, 0, 0)
        one.command(cdb, flags=0xA0, expected=expected, data=data)
        return one.answer()[0][:4].hex()


@primitive("iscsi.no-data")
def no_data(me: Infected, dice: random.Random) -> str:
    """Begin WRITEs of megabytes whose data never comes."""
    count = dice.randrange(1, 64)
    with me.session(held=True) as one:
        for _ in range(count):
            cdb = struct.pack(">BBQIBB", 0x8A, 0, 0, 2048, 0, 0)
            one.command(cdb, flags=0xA0, expected=1 << 20)
    return f"{count} writes"


@primitive("iscsi.unread")
def unread(me: Infected, dice: random.Random) -> str:
    """Ask for megabytes and read nothing of them."""
    with me.session(held=True) as one:
        one.ask_much(dice.randrange(1, 32))
    return ""


@primitive("iscsi.logout")
def logout(me: Infected, dice: random.Random) -> str:
    """Ask to log out with commands under way, and go on, or leave at once."""
    with me.session(held=dice.random() < 0.5) as one:
        one.ask_much(2)
        reason = 0x80 | dice.randrange(3)
        one.socket.sendall(header(0x46, reason, 0, bytes(8), 99, 0, one.sequence, 1))
        one.ask_much(dice.randrange(3))
    return ""


@primitive("iscsi.pdus")
def pdus(me: Infected, dice: random.Random) -> str:
    """Send PDUs of chance in a session: opcodes, lengths, additional headers, sequence numbers."""
    with me.session() as one:
        for _ in range(dice.randrange(1, 20)):
            data = dice.randbytes(dice.choice((0, 4, 512, 8192)))
            size = len(data) if dice.random() < 0.7 else dice.getrandbits(24)
            head = bytearray(
                header(dice.randrange(256), dice.randrange(256), size, one.lun,
                       dice.getrandbits(32), dice.getrandbits(32), one.sequence, 1,
                       dice.randbytes(16))
            )  # fmt: skip
            if dice.random() < 0.2:
                head[4] = dice.randrange(256)
            one.socket.sendall(bytes(head) + data)
        return one.answer()[0][:4].hex()


@primitive("iscsi.keys")
def keys(me: Infected, dice: random.Random) -> str:
    """Log in with keys that are unknown, twice, empty, huge, or not ended."""
    own = me.secret()
    words = (
        b"InitiatorName=" + own.credentials.initiator.encode(),
        b"TargetName=" + own.target.encode(),
        b"SessionType=Normal", b"SessionType=Discovery", b"AuthMethod=None", b"AuthMethod=CHAP",
        b"AuthMethod=CHAP,None,", b"CHAP_A=5", b"CHAP_N=x",
        b"CHAP_R=0x" + b"0" * 300,
        b"=", b"\xff" * 9,
        b"MaxConnections=65535", b"MaxRecvDataSegmentLength=0", b"FirstBurstLength=99999999999",
        b"X-" + b"k" * 300 + b"=1", b"HeaderDigest=CRC32C", b"TargetName=" + b"%n%s" * 50,
    )  # fmt: skip
    with me.initiator() as one:
        for _ in range(dice.randrange(1, 6)):
            text = b"\0".join(dice.choices(words, k=dice.randrange(12)))
            flags = dice.choice((0x00, 0x04, 0x81, 0x87, 0x40, dice.randrange(256)))
            head = header(0x43, flags, len(text), one.session, 1, 0, 0, 0)
            one.socket.sendall(head + text + bytes(-len(text) % 4))
        return one.answer()[0][36:38].hex()


@primitive("iscsi.bytes")
def some_bytes(me: Infected, dice: random.Random) -> str:
    """Send the portal what is no iSCSI."""
    with me.initiator() as one:
        one.socket.sendall(dice.randbytes(dice.randrange(1, 20000)))
        return one.answer()[0][:4].hex()

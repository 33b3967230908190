"""SCSI commands to its own disk (SPC-4, SBC-3): whatever they do, they do to that alone."""

from __future__ import annotations

import random
import struct

from tests.attacks.infected import Infected
from tests.attacks.moves import primitive
from tests.attacks.pdus import Sender


def do(one: Sender, cdb: bytes, data: bytes = b"", expected: int = 0) -> str:
    """Send a command, and data with it; return what the answer says: opcode and SCSI status."""
    flags, length = (0xA0, len(data)) if data else (0xC0, expected)
    one.command(cdb, flags=flags, expected=length, data=data)
    head, _ = one.answer()
    return f"{head[0]:02x}/{head[3]:02x}"


def reserve(action: int, kind: int, key: int, new: int) -> tuple[bytes, bytes]:
    """Return a PERSISTENT RESERVE OUT and its parameters; action 0 registers a key."""
    cdb = struct.pack(">BBBxxIx", 0x5F, action, kind, 24)
    return cdb, struct.pack(">QQ4xB3x", key, new, 1)


@primitive("scsi.reserve")
def reservation(me: Infected, dice: random.Random) -> str:
    """Register keys and reserve the disk, to stay so beyond a loss of power (APTPL)."""
    with me.session() as one:
        key = dice.getrandbits(64)
        kinds = [(dice.randrange(8), dice.choice((1, 3, 5, 6, 7, 8))) for _ in range(4)]
        said = [do(one, *reserve(*what, key, key)) for what in ((0, 0), *kinds)]
        said.append(do(one, b"\x16" + bytes(5)))  # RESERVE(6)
        return " ".join(said)


@primitive("scsi.unmap")
def unmap(me: Infected, dice: random.Random) -> str:
    """Unmap blocks, within the disk and beyond its end."""
    with me.session() as one:
        lba = dice.choice((0, 100, 1 << 40, (1 << 64) - 1))
        blocks = struct.pack(">QI4x", lba, dice.choice((1, 8192, 0xFFFFFFFF)))
        data = struct.pack(">HH4x", 6 + len(blocks), len(blocks)) + blocks
        return do(one, struct.pack(">BB4xBHB", 0x42, 0, 0, len(data), 0), data)


@primitive("scsi.write")
def write(me: Infected, dice: random.Random) -> str:
    """Write over boot sector, partition table, and past the end, by every kind of WRITE."""
    with me.session() as one:
        lba = dice.choice((0, 1, 8191, 8192, 0xFFFFFFFF))
        data, code = dice.randbytes(512), dice.choice((0x2A, 0x2E, 0x8A, 0x8E, 0x93, 0x41, 0x0A))
        if code == 0x0A:
            cdb = struct.pack(">BBHBB", code, 0, lba & 0xFFFF, 1, 0)
        elif code in (0x2A, 0x2E, 0x41):
            cdb = struct.pack(">BBIBHB", code, 0, lba & 0xFFFFFFFF, 0, 1, 0)
        else:
            cdb = struct.pack(">BBQIBB", code, 0, lba, 1, 0, 0)
        return do(one, cdb, data)


@primitive("scsi.copy")
def copy(me: Infected, dice: random.Random) -> str:
    """Have the target copy from a disk that it is told of by its serial number (EXTENDED COPY)."""
    with me.session() as one:
        identity = struct.pack(
            ">BBBBBBBB16s4xB3x", 0xE4, 0, 0, 0, 1, 3, 0, 16, dice.randbytes(16), 0
        )
        segment = struct.pack(">BBHHHHHQQ", 2, 0, 24, 0, 0, 0, 64, 0, 0)
        head = struct.pack(">BBHIII", 0, 0, len(identity) * 2, 0, len(segment), 0)
        data = (head + identity * 2 + segment)[: dice.choice((8, 16, 200))]
        return do(
            one, struct.pack(">BBxxxxxxxxIxx", 0x83, dice.choice((0, 1, 16)), len(data)), data
        )


@primitive("scsi.change")
def change(me: Infected, dice: random.Random) -> str:
    """Format, sanitize, stop, eject, write-protect the disk, and change its mode pages."""
    with me.session() as one:
        mode = bytes(8) + b"\x0a\x0a" + b"\x08" + bytes(9)
        what: tuple[tuple[bytes, bytes], ...] = (
            (b"\x04" + bytes(5), b""), (b"\x48\x03" + bytes(8), b""), (b"\x1b\0\0\0\x02\0", b""),
            (b"\x1e\0\0\0\x01\0", b""), (struct.pack(">BBxxxxxHx", 0x55, 0x11, len(mode)), mode),
            (b"\x3b\x05" + bytes(6) + b"\x02\0", bytes(512)), (b"\xa3\x0f" + bytes(10), b""),
        )  # fmt: skip
        return " ".join(do(one, *dice.choice(what)) for _ in range(dice.randrange(1, 4)))


@primitive("scsi.ask")
def ask(me: Infected, dice: random.Random) -> str:
    """Ask for what it may know of, with lengths of every kind, and of LUNs that are not its own."""
    with me.session() as one:
        length = dice.choice((0, 1, 36, 255, 4096, 0xFFFF))
        page = dice.randrange(256)
        what = (
            struct.pack(">BBBHB", 0x12, 1, page, length, 0),
            struct.pack(">B5xIxx", 0xA0, length),
            struct.pack(">BBB4xHB", 0x4D, 0, page, length, 0),
            struct.pack(">BBB4xHx", 0x5A, 0, page, length),
            struct.pack(">BB5xHx", 0x5E, dice.randrange(4), length),
            struct.pack(">BB8xIxx", 0x9E, 0x12, length),
        )
        return " ".join(do(one, dice.choice(what), expected=length) for _ in range(5))


@primitive("scsi.chance")
def chance(me: Infected, dice: random.Random) -> str:
    """Send commands of chance."""
    with me.session() as one:
        return " ".join(
            do(one, dice.randbytes(16), expected=dice.choice((0, 512))) for _ in range(10)
        )

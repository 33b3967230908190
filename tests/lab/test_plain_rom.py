from __future__ import annotations

import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.lab import qemu
from cuckoo_zfsiscsi.lab.network import Network
from cuckoo_zfsiscsi.lab.plain_rom import IN, OUT, Turn
from cuckoo_zfsiscsi.lab.rom import PlainRom
from tests.waiting import HANG, wait

IPXE = b"\x4d\x04iPXE\xaf\x03\xb0\x01\x01"
OTHERS = b"\x35\x01\x01" + b"\x00" + b"\x5d\x02\x00\x00"


def udp(port: int, payload: bytes) -> bytes:
    head = struct.pack("!HHHH", 68, port, 8 + len(payload), 0xABCD)
    return bytes(12) + b"\x08\x00\x45" + bytes(8) + b"\x11" + bytes(10) + head + payload


def tcp(flags: int) -> bytes:
    return (
        bytes(12)
        + b"\x08\x00\x45"
        + bytes(8)
        + b"\x06"
        + bytes(10)
        + bytes(13)
        + bytes([flags, *bytes(6)])
    )


def dhcp(options: bytes) -> bytes:
    return udp(67, bytes(240) + options + b"\xff")


def shown(turn: Turn, frame: bytes) -> bytes:
    copy = bytearray(frame)
    turn.show(copy)
    return bytes(copy)


@pytest.mark.parametrize("before", [0, 10, 12])
def test_the_rom_is_no_ipxe_but_what_it_loads_is(before: int) -> None:
    turn, header = Turn(), bytes(before)
    request = header + dhcp(OTHERS + IPXE + OTHERS)
    plain = header + dhcp(OTHERS + bytes(len(IPXE)) + OTHERS)
    checksum = before + 14 + 20 + 6
    plain = plain[:checksum] + b"\0\0" + plain[checksum + 2 :]
    for _ in range(2):  # power on; then a reset button, after the OS ran
        assert shown(turn, request) == plain
        assert shown(turn, request) == plain, "sent again"
        ask = header + udp(69, b"\0\1undionly.kpxe\0octet\0")
        assert shown(turn, ask) == ask
        assert shown(turn, request) == request, "iPXE's own"
        for flags in (0x12, 0x10):
            assert shown(turn, header + tcp(flags)) == header + tcp(flags)
        assert shown(turn, request) == request
        assert shown(turn, header + tcp(0x02)) == header + tcp(0x02), "it opens a connection"


@pytest.mark.parametrize(
    "frame", [b"", bytes(60), udp(67, b""), dhcp(b"\x4d"), dhcp(b"\x4d\xff"), udp(67, bytes(240))]
)
def test_odd_frames_pass(frame: bytes) -> None:
    assert len(shown(Turn(), frame)) == len(frame)


def test_one_power_on_after_the_other(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "cuckoo_zfsiscsi.lab.plain_rom", str(tmp_path)]
    with subprocess.Popen(argv) as process:
        try:
            wait((tmp_path / IN).exists, what="its sockets")
            for _ in range(2):
                with socket.socket(socket.AF_UNIX) as out, socket.socket(socket.AF_UNIX) as back:
                    out.connect(str(tmp_path / OUT))
                    back.connect(str(tmp_path / IN))
                    for frame in (dhcp(IPXE), bytes(1500)):
                        out.sendall(struct.pack("!I", len(frame)) + frame)
                        back.settimeout(HANG)
                        got = b""
                        while len(got) < len(frame) + 4:
                            got += back.recv(4096)
                        assert got[:4] == struct.pack("!I", len(frame))
                        assert b"iPXE" not in got
        finally:
            process.kill()


def test_qemu_connects(network: Network, tmp_path: Path) -> None:
    machine = qemu.create(tmp_path / "m", 1, "bios", network, rom="plain", extra=["-S"])
    with PlainRom(machine, network) as rom:
        machine.on()
        assert machine.pid
        machine.off()
        rom.stop()
        rom.stop()

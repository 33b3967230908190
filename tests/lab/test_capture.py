from __future__ import annotations

import fcntl
import os
import struct
import time
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.errors import LabError
from cuckoo_zfsiscsi.lab import network as net
from cuckoo_zfsiscsi.lab.capture import Capture, Event, read, times
from cuckoo_zfsiscsi.lab.network import Network
from cuckoo_zfsiscsi.lab.watch import inside
from tests.waiting import wait

CLOCK = 0.1
"""Seconds by which the kernel's coarse clock may differ from ours."""


def frame(protocol: int, port: int, payload: bytes) -> bytes:
    head = struct.pack("!HH", 1000, port)
    rest = bytes(4) if protocol == 17 else bytes(8) + b"\x80" + bytes(19)  # 32 bytes of TCP header
    return (
        bytes(12)
        + b"\x08\x00\x45"
        + bytes(8)
        + bytes([protocol])
        + bytes(10)
        + head
        + rest
        + payload
    )


def dhcp(kind: int, more: bytes = b"") -> bytes:
    return frame(17, 67, bytes(240) + bytes([0, 53, 1, kind]) + more + b"\xff")


def pcap(*frames: tuple[float, bytes]) -> bytes:
    packets = [
        struct.pack("<IIII", int(at), round(at % 1 * 1e6), len(data), len(data)) + data
        for at, data in frames
    ]
    return bytes(24) + b"".join(packets)


BOOT = [
    (99.0, dhcp(1)),  # of the boot before
    (101.0, dhcp(1)),
    (101.1, dhcp(2)),
    (101.2, dhcp(3)),
    (101.25, dhcp(5)),
    (101.5, frame(17, 69, b"\0\1undionly.kpxe")),
    (102.0, dhcp(1, b"\x4d\x04iPXE")),
    (102.5, dhcp(2)),
    (105.5, dhcp(3, b"\x4d\x04iPXE")),
    (105.75, dhcp(5)),
    (106.25, frame(6, 8471, b"")),
    (106.75, frame(6, 8471, b"GET /boot.ipxe?mac=x HTTP/1.1")),
    (107.0, frame(6, 3260, b"\x43" + bytes(47))),
    (107.5, frame(6, 3260, b"\x01" + bytes(47))),
]


def test_read() -> None:
    seen = [(event.what, event.ipxe) for event in read(pcap(*BOOT))]
    assert seen == [
        ("discover", False),
        ("discover", False),
        ("offer", False),
        ("request", False),
        ("ack", False),
        ("tftp", False),
        ("discover", True),
        ("offer", False),
        ("request", True),
        ("ack", False),
        ("script", False),
        ("login", False),
    ]


def test_cut_off_and_odd_packets() -> None:
    content = pcap(*BOOT)
    for length in range(0, len(content), 7):
        assert len(list(read(content[:length]))) <= 12
    (script,) = read(pcap((1.0, frame(17, 69, b"\0\1boot.ipxe\0octet\0"))))
    assert script.what == "script"
    for odd in (b"", bytes(60), dhcp(99), frame(17, 67, b""), frame(6, 3260, b"")):
        assert list(read(pcap((1.0, odd)))) == []


def test_times() -> None:
    found = times(list(read(pcap(*BOOT))), 100.0)
    assert found.dhcp == pytest.approx(1.0)
    assert found.script == pytest.approx(6.75)
    assert found.login == pytest.approx(7.0)
    assert found.offer_wait == pytest.approx(3.0)
    assert found.script_wait == pytest.approx(1.0)
    collects = [(1.0, "discover"), (1.1, "offer"), (5.0, "request"), (5.1, "ack"), (6.0, "script")]
    assert times([Event(at, what) for at, what in collects], 0.0).offer_wait == 0.0  # firmware
    with pytest.raises(LabError, match="no request for a boot script"):
        times([Event(101.0, "discover")], 100.0)


TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x0002, 0x1000  # linux/if_tun.h


def test_a_real_capture(network: Network, tmp_path: Path) -> None:
    """At the host's port: what it says, as far as it matters."""

    def plug_in() -> int:
        port = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(port, TUNSETIFF, struct.pack("16sH", net.tap(1).encode(), IFF_TAP | IFF_NO_PI))
        return port

    port = inside(network, plug_in)
    source = bytes.fromhex(net.mac(1).replace(":", ""))
    try:
        with Capture(network, tmp_path / "boot.pcap") as wire:
            assert wire.events() == []
            before = time.time()
            for _, data in [(0.0, bytes(60)), *BOOT]:
                os.write(port, b"\xff" * 6 + source + data[12:])
            wait(lambda: len(wire.events()) >= 12, what="12 packets", seen=wire.events)
            seen = wire.events()
            kinds = [event.what for event in seen]
            assert (kinds.count("discover"), kinds.count("script"), kinds[-1]) == (3, 1, "login")
            assert before - CLOCK < seen[0].at < time.time() + CLOCK
    finally:
        os.close(port)

"""The last packets, from a real tcpdump at a real bridge."""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.errors import LabError
from cuckoo_zfsiscsi.lab import network as net
from cuckoo_zfsiscsi.lab import wire as wire_module
from cuckoo_zfsiscsi.lab.network import Network
from cuckoo_zfsiscsi.lab.watch import inside
from cuckoo_zfsiscsi.lab.wire import Wire
from tests.waiting import wait

TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x0002, 0x1000  # linux/if_tun.h
ACK, PUSH, SYN = 0x10, 0x18, 0x02


@pytest.fixture
def port(network: Network) -> Iterator[int]:
    """Return a host's port, for what it sends."""

    def plug_in() -> int:
        opened = os.open("/dev/net/tun", os.O_RDWR)
        name = net.tap(1).encode()
        fcntl.ioctl(opened, TUNSETIFF, struct.pack("16sH", name, IFF_TAP | IFF_NO_PI))
        return opened

    opened = inside(network, plug_in)
    yield opened
    os.close(opened)


def mac(number: int) -> bytes:
    return bytes.fromhex(net.mac(number).replace(":", ""))


def tcp(flags: int, payload: bytes, *, number: int = 3260) -> bytes:
    """Return a frame to another host: the bridge only passes it on."""
    addresses = net.host_address(1).packed + net.host_address(2).packed
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 40 + len(payload), 0, 0, 64, 6, 0) + addresses
    # A bridge with netfilter looks at the header's checksum (RFC 791)
    ip = ip[:10] + struct.pack("!H", 0xFFFF - sum(struct.unpack("!10H", ip)) % 0xFFFF) + ip[12:]
    segment = struct.pack("!HHIIBBHHH", 1000, number, 0, 0, 0x50, flags, 0, 0, 0)
    return mac(2) + mac(1) + b"\x08\x00" + ip + segment + payload


def kept(at: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(at.glob("wire.pcap*")))


def test_what_is_kept_of_the_wire(network: Network, tmp_path: Path, port: int) -> None:
    """All but the disk's blocks and their acknowledgements; also of what goes past the server."""
    wire = Wire(network, tmp_path)
    wire.start()
    try:
        for frame in (
            tcp(SYN, b""),
            tcp(PUSH, b"command"),
            tcp(ACK, b""),
            tcp(PUSH, b"block" * 200),
            tcp(ACK, b"", number=80),
            tcp(PUSH, b"script" * 200, number=80),
            b"\xff" * 6 + mac(1) + b"\x88\xb5" + b"last" * 12,
        ):
            os.write(port, frame)
        wait(
            lambda: b"last" in kept(tmp_path),
            what="the last packet",
            seen=lambda: len(kept(tmp_path)),
        )
        found = kept(tmp_path)
        assert b"command" in found
        assert b"block" not in found
        assert found.count(struct.pack("!HH", 1000, 3260)) == 2
        assert found.count(struct.pack("!HH", 1000, 80)) == 2
    finally:
        wire.stop()
    wire.stop()
    assert network.pids() == []


def test_it_does_not_grow(
    network: Network, tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire_module, "SIZE", 1)
    wire = Wire(network, tmp_path)
    wire.start()
    try:
        sent = 0
        while not (tmp_path / "wire.pcap2").exists() or b"number 0." in kept(tmp_path):
            for _ in range(200):
                os.write(port, tcp(PUSH, b"number %d." % sent + bytes(600), number=80))
                sent += 1
            assert sent < 50_000
        sizes = [path.stat().st_size for path in tmp_path.glob("wire.pcap*")]
        assert len(sizes) == wire_module.FILES
        assert max(sizes) < 1.1e6
    finally:
        wire.stop()


def test_it_does_not_start(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire_module, "BULK", "nonsense of ours")
    with pytest.raises(LabError, match=r"tcpdump ended with status 1; wire.log: .*syntax error"):
        Wire(network, tmp_path).start()

from __future__ import annotations

import os
import socket
import struct
from contextlib import closing

import pytest

from cuckoo_zfsiscsi.netboot.wire import Wire, datagram, dhcp_card, tftp_file
from tests.faults.attacker import discover
from tests.netboot.conftest import MAC1, MAC2
from tests.netboot.network import inside, make_network


def make_packet(payload: bytes, port: int) -> bytes:
    udp = struct.pack("!HHHH", 2000, port, 8 + len(payload), 0)
    return b"\x45".ljust(20, b"\0") + udp + payload


def test_what_is_asked_for() -> None:
    for asked, name in [(b"\0\1undionly.kpxe\0octet\0", "undionly.kpxe"),
                        (b"\0\1\xff\xfe\0octet\0", "\ufffd\ufffd")]:  # fmt: skip
        port, payload = datagram(make_packet(asked, 69))
        assert (port, tftp_file(payload)) == (69, name)
    for other in (b"", b"\0", b"\0\3x\0", b"\0\1"):
        assert tftp_file(other) is None
    for cut in (b"", b"\x45", b"\x4f".ljust(40, b"\0")):
        assert datagram(cut) == (0, b"")


def test_whom_dhcp_is_for() -> None:
    frame = discover(bytes.fromhex(MAC1.replace(":", "")), bytes(6))
    port, payload = datagram(frame[14:])
    assert (port, dhcp_card(payload)) == (67, MAC1)
    assert dhcp_card(b"\2" + payload[1:]) is None, "an answer"
    assert dhcp_card(payload[:33]) is None


def test_what_is_heard_and_from_whom() -> None:
    """Requests alone: neither other traffic, nor fragments, nor what the server itself sends."""
    own, other = (bytes.fromhex(mac.replace(":", "")) for mac in (MAC1, MAC2))
    ask = discover(other, own)
    fragment = bytearray(ask)
    fragment[20:22] = b"\x00\x10"
    elsewhere = bytearray(ask)
    elsewhere[36:38] = b"\0\x35"
    tcp = bytearray(ask)
    tcp[23] = socket.IPPROTO_TCP
    with make_network(f"zi-wire{os.getpid()}-") as network:
        with inside(network.server):
            wire = Wire("boot0", 1.0)
            ours = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with ours:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"boot0")
            ours.sendto(b"\1", ("255.255.255.255", 67))
        with inside(network.hosts), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
            sender.bind(("nic0", 0))
            for frame in (fragment, elsewhere, tcp, ask):
                sender.send(frame)
        with closing(wire):
            packet, source = wire.receive()
            assert source == MAC1
            assert dhcp_card(datagram(packet)[1]) == MAC2
            with pytest.raises(TimeoutError):
                wire.receive()


def test_no_such_card() -> None:
    with pytest.raises(OSError, match="No such device"):
        Wire("no-such-card", 1.0)

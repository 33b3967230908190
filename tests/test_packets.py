from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from ipaddress import IPv4Address

import pytest

from cuckoo_zfsiscsi.packets import ETH_ARP, ETH_IP, Card, attach, checksum, ipv4, send
from tests.netboot.network import Network, inside, make_network
from tests.waiting import HANG, wait

MAC = "02:11:22:33:44:55"
HERE, THERE = IPv4Address("10.99.0.1"), IPv4Address("10.99.0.11")


@pytest.fixture(scope="module")
def net() -> Iterator[Network]:
    with make_network(f"packets{os.getpid()}") as network:
        network.run(network.hosts, f"ip link set nic0 address {MAC}")
        network.run(network.hosts, f"ip addr add {THERE}/24 dev nic0")
        yield network


def test_checksum() -> None:
    """RFC 1071, 3: the sum of its example is ddf2."""
    assert checksum(bytes.fromhex("0001f203f4f5f6f7")) == 0xFFFF - 0xDDF2
    header = ipv4(HERE, THERE, socket.IPPROTO_UDP, b"")
    assert checksum(header) == 0, "as whoever receives it finds"


def test_a_packet_to_one_card(net: Network) -> None:
    """It comes to that card, though the kernel does not know who has the address."""
    udp = b"\x10\x00\x20\x00\x00\x0c\x00\x00abcd"  # no checksum
    with inside(net.hosts):
        guest = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        guest.bind((str(THERE), 0x2000))
        guest.settimeout(HANG)
    with guest:
        with inside(net.server):
            net.run(net.server, "ip neigh flush all")
            Card("boot0", MAC).send(ipv4(HERE, THERE, socket.IPPROTO_UDP, udp))
        assert guest.recv(100) == b"abcd"


def test_what_a_filter_leaves(net: Network) -> None:
    drop_all = ((0x06, 0, 0, 0),)
    first, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with first, other:
        attach(first, drop_all)
        first.settimeout(0.1)
        other.send(b"dropped")
        with pytest.raises(TimeoutError):
            first.recv(10)
        with pytest.raises(OSError, match=os.strerror(errno.EINVAL)):
            attach(first, ((0xFF, 0, 0, 0),))


def test_a_cable_with_nobody_at_its_end(net: Network) -> None:
    """A host that is off may take the carrier with it: that is no failure of ours."""

    def is_down() -> bool:
        return "NO-CARRIER" in net.run(net.server, "ip link show boot0")

    with inside(net.server):
        wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_ARP))
        wire.bind(("boot0", ETH_IP))
    with wire:
        net.run(net.hosts, "ip link set nic0 down")
        wait(is_down, what="there still is a carrier")
        for _ in range(100):  # until the kernel has taken the queue away, and after
            send(wire, bytes(60))
        net.run(net.hosts, "ip link set nic0 up")
        net.run(net.server, "ip link set boot0 down")
        with pytest.raises(OSError, match=os.strerror(errno.ENETDOWN)):
            send(wire, bytes(60))
        net.run(net.server, "ip link set boot0 up")

"""What is said to a DHCP server on the way to a boot script, and helpers of its tests."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import pytest

from tests.netboot.network import DhcpClient, Lease, Network, Options, inside
from tests.waiting import HANG, wait

IPXE_CLASS: Options = {77: b"iPXE"}
IPXE_FEATURES: Options = {175: b"\xeb\x03\x01\x00\x00"}
BIOS: Options = {60: b"PXEClient:Arch:00000:UNDI:002001", 93: b"\0\0"}
UEFI7: Options = {60: b"PXEClient:Arch:00007:UNDI:003000", 93: b"\0\x07"}
UEFI9: Options = {60: b"PXEClient:Arch:00009:UNDI:003000", 93: b"\0\x09"}
HTTP: Options = {60: b"HTTPClient:Arch:00016:UNDI:003001", 93: b"\0\x10"}
SCRIPT = "http://10.99.0.1:8471/boot.ipxe?mac=${netX/mac}"
FILES = "http://10.99.0.1:8471/files/"

Events = list[tuple[str, str, float]]


def fake_program(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, script: str) -> None:
    """Put a shell script before the real program."""
    program = folder / "bin" / name
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")


def lease(client: DhcpClient, mac: str, options: Options) -> Lease:
    """Go through all four packets."""
    offer = client.ask(mac, 1, options)
    assert offer, f"no DHCP server makes {mac} an offer"
    assert offer.kind == 2
    wanted = {50: socket.inet_aton(offer.ip), 54: offer.options[54]}
    ack = client.ask(mac, 3, {**options, **wanted})
    assert ack, f"no DHCP server answers the request of {mac}"
    assert ack.kind == 5
    return ack


def advertisement(net: Network, card: str) -> bytes:
    """Ask for a router as iPXE does (RFC 4861 4.1); return what is advertised."""
    with inside(net.hosts):
        sock = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
        index = socket.if_nametoindex(card)
    with sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, card.encode())
        sock.settimeout(HANG)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)

        def ask() -> int:
            try:
                return sock.sendto(bytes([133, 0, 0, 0, 0, 0, 0, 0]), ("ff02::2", 0, 0, index))
            except OSError as error:
                if error.errno != errno.EADDRNOTAVAIL:  # a card that is up gets its address later
                    raise
                return 0

        wait(ask, what=f"{card} can't ask for a router", seen=lambda: net.run(net.hosts, "ip a"))
        while True:
            packet = sock.recv(1500)
            if packet[0] == 134:
                return packet

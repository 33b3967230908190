"""A boot network of the test's own: two network namespaces and a wire between them."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.waiting import HANG

CLONE_NEWNET = 0x40000000
ALL = "255.255.255.255"
_libc = ctypes.CDLL(None, use_errno=True)

Options = dict[int, bytes]
Request = tuple[str, int, Options]
"""MAC address, kind and options of a DHCP request."""


@contextmanager
def inside(namespace: Path) -> Iterator[None]:
    """Move this thread, and the children that it starts, to a network namespace."""
    with Path("/proc/thread-self/ns/net").open() as before, namespace.open() as there:
        assert _libc.setns(there.fileno(), CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
        try:
            yield
        finally:
            assert _libc.setns(before.fileno(), CLONE_NEWNET) == 0


@dataclass(frozen=True)
class Network:
    """`boot0` in the namespace of the server, `nic0` in that of the hosts."""

    server: Path
    hosts: Path

    def run(self, namespace: Path, command: str) -> str:
        with inside(namespace):
            return subprocess.run(
                command.split(), check=True, stdout=subprocess.PIPE, text=True, timeout=HANG
            ).stdout


@contextmanager
def make_network(name: str) -> Iterator[Network]:
    names = [f"{name}{end}" for end in "sh"]
    net = Network(*(Path("/run/netns") / one for one in names))
    try:
        for one in names:
            subprocess.run(["ip", "netns", "add", one], check=True)
            with inside(Path("/run/netns") / one):
                Path("/proc/sys/net/ipv6/conf/default/accept_dad").write_text("0")
                subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        net.run(net.server, f"ip link add boot0 type veth peer nic0 netns {names[1]}")
        net.run(net.server, "ip addr add 10.99.0.1/24 dev boot0")
        net.run(net.server, "ip link set boot0 up")
        net.run(net.hosts, "ip link set nic0 up")
        yield net
    finally:
        for one in names:
            subprocess.run(["ip", "netns", "del", one], check=False)


def add_wire(net: Network) -> None:
    """Add a second network: boot1 in the namespace of the server, nic1 in that of the hosts."""
    net.run(net.server, f"ip link add boot1 type veth peer nic1 netns {net.hosts.name}")
    net.run(net.server, "ip addr add 10.99.20.1/24 dev boot1")
    net.run(net.server, "ip link set boot1 up")
    net.run(net.hosts, "ip link set nic1 up")


@dataclass(frozen=True)
class Lease:
    """A DHCP server's answer."""

    kind: int
    """2 offer, 5 ack, 6 nak."""
    ip: str
    boot_file: str
    server: str
    """Whom to ask for the file (siaddr)."""
    options: Options


class DhcpClient:
    """Just enough of a PXE ROM (RFC 2131, RFC 4578): one packet there, one back."""

    def __init__(self, net: Network, card: str = "nic0") -> None:
        with inside(net.hosts):
            self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, card.encode())
        self.socket.bind(("", 68))

    def ask(self, mac: str, kind: int, options: Options) -> Lease | None:
        """Send DISCOVER (1) or REQUEST (3), again each second; None when nobody answers."""
        self._forget()
        return self._ask(mac, kind, options)

    def renew(self, mac: str, ip: str, server: str, options: Options) -> Lease | None:
        """Ask the server to renew a lease, or with 255.255.255.255 any (RFC 2131, 4.3.2).

        The card must have the address: there the answer goes.
        """
        self._forget()
        return self._ask(mac, 3, options, server, ip)

    def is_ignored(self, requests: list[Request], known: Request) -> bool:
        """Tell whether nobody has answered these requests when another, sent later, is answered.

        Args:
            requests: each with MAC address, kind and options.
            known: what is answered; by a server that takes one after the other, as all here do.
        """
        self._forget()
        numbers = set()
        for request in requests:
            number, packet = make_packet(*request)
            self.socket.sendto(packet, (ALL, 67))
            numbers.add(number)
        assert self._ask(*known), "nobody answers what is to be answered"
        return not numbers & self._heard

    def _ask(
        self, mac: str, kind: int, options: Options, server: str = ALL, ip: str = ""
    ) -> Lease | None:
        number, packet = make_packet(mac, kind, options, ip)
        end = time.monotonic() + HANG
        while (rest := end - time.monotonic()) > 0:
            self.socket.sendto(packet, (server, 67))
            if answer := self._answer(number, min(rest, 1.0)):
                return parse(answer)
        return None

    def _forget(self) -> None:
        """Drop what came for others: enough of it leaves no room for an answer."""
        self._heard: set[bytes] = set()
        self.socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                self.socket.recv(2000)

    def _answer(self, number: bytes, seconds: float) -> bytes | None:
        end = time.monotonic() + seconds
        while (rest := end - time.monotonic()) > 0:
            self.socket.settimeout(rest)
            with contextlib.suppress(TimeoutError):
                answer = self.socket.recv(2000)
                self._heard.add(answer[4:8])
                if answer[4:8] == number:
                    return answer
        return None


def make_packet(mac: str, kind: int, options: Options, ip: str = "") -> tuple[bytes, bytes]:
    """Return the number of a request, and the request.

    Args:
        mac: of who asks.
        kind: 1 discover, 3 request.
        options: of it.
        ip: address that the asker has (ciaddr), to which the answer goes then.
    """
    number = os.urandom(4)
    own = socket.inet_aton(ip or "0")
    head = struct.pack("!BBBB4sHH4s12x", 1, 1, 6, 0, number, 0, 0 if ip else 0x8000, own)
    body = head + bytes.fromhex(mac.replace(":", "")).ljust(16 + 192, b"\0")
    options = {53: bytes([kind]), 55: bytes([1, 3, 6, 15, 51, 54, 66, 67, 175]), **options}
    packed = b"".join(bytes([code, len(data)]) + data for code, data in options.items())
    return number, body + b"\x63\x82\x53\x63" + packed + b"\xff"


def parse(answer: bytes) -> Lease:
    options, rest = {}, answer[240:]
    while rest and rest[0] != 255:
        if rest[0] == 0:
            rest = rest[1:]
            continue
        options[rest[0]] = rest[2 : 2 + rest[1]]
        rest = rest[2 + rest[1] :]
    file = options.get(67) or answer[108:236]
    return Lease(
        options[53][0],
        socket.inet_ntoa(answer[16:20]),
        file.split(b"\0")[0].decode(),
        socket.inet_ntoa(answer[20:24]),
        options,
    )

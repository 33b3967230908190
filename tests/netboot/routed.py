"""A server that two networks of hosts, a network of power devices and an internet are behind.

Each end is a network namespace. What answers says which end it is, and what it was asked.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.netboot.network import inside
from tests.waiting import HANG

LAB, LAB2, BMCS, WAN = "x0", "x1", "x2", "x3"
"""The server's interfaces."""
PC1, PC2 = "10.99.0.11", "10.99.20.12"
STRANGER = "10.99.0.77"
"""Another address of pc1's card, in no section of zfsiscsi.conf."""
SERVER, SERVER2 = "10.99.0.1", "10.99.20.1"
BMC, INETSIM = "10.98.0.11", "10.98.0.50"
PUBLIC = "93.184.216.34"
PRIVATE, ALLOWED, RESOLVER = "192.168.77.5", "192.168.77.6", "192.168.77.53"
"""Behind the way out."""
BRIEF = 0.5
"""Seconds, for what nobody is to answer."""
CONF = f"""\
[zfsiscsi]
machines = pc1,pc2
interface = {LAB}
service = http://127.0.0.1:8470
token_file = /etc/zfsiscsi/token

[storage]
portal = {SERVER}
iqn = iqn.2026-01.org.example

[netboot]
interface = {LAB}
address = {SERVER}/24
allow = {ALLOWED}

[network:more]
interface = {LAB2}
address = {SERVER2}/24

[pc1]
label = pc1
platform = linux
arch = x64
ip = {PC1}
snapshot = lab
mac = 52:54:00:99:00:01
portal_port = 3260
power = ipmi://admin@{BMC}

[pc2]
label = pc2
platform = linux
arch = x64
ip = {PC2}
snapshot = lab
mac = 52:54:00:99:00:02
portal_port = 3260
network = more
power = ipmi://admin@10.98.0.12
"""
WIRES = {
    "1": (LAB, f"{SERVER}/24", [f"{PC1}/24", f"{STRANGER}/24"], SERVER),
    "2": (LAB2, f"{SERVER2}/24", [f"{PC2}/24"], SERVER2),
    "b": (BMCS, "10.98.0.1/24", [f"{BMC}/24", f"{INETSIM}/24"], "10.98.0.1"),
    "w": (WAN, "203.0.113.1/24", ["203.0.113.9/24"], ""),
}
"""By end: the server's interface and address, the end's, and its gateway."""
BEHIND = (PUBLIC, PRIVATE, ALLOWED, RESOLVER)
MACHINE, SIBLING = "10.99.0.5", "10.99.0.13"
BESIDE = {"m": MACHINE, "3": SIBLING}
"""By end: beside pc1, where its network is a bridge of the server."""
MACS = {"1": "52:54:00:99:00:01", "2": "52:54:00:99:00:02", "3": "52:54:00:99:00:03"}
"""By end: of hosts, as in zfsiscsi.conf."""


class Routed:
    """The namespaces. `s` is the server, the other ends are those of WIRES.

    Args:
        bridged: pc1's network is a bridge of the server, with the ends of BESIDE on it.
    """

    def __init__(self, *, bridged: bool = False) -> None:
        self._beside = BESIDE if bridged else {}
        self._name = f"zr{os.getpid()}"
        self._ends = contextlib.ExitStack()
        self.server = self.namespace("s")
        self._sockets = selectors.DefaultSelector()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._loop)

    def namespace(self, end: str) -> Path:
        return Path("/run/netns") / f"{self._name}{end}"

    def run(self, end: str, command: str) -> str:
        with inside(self.namespace(end)):
            return subprocess.run(
                command.split(), check=True, capture_output=True, text=True, timeout=HANG
            ).stdout

    @property
    def _names(self) -> tuple[str, ...]:
        return ("s", *WIRES, *self._beside)

    def up(self) -> None:
        for end in self._names:
            subprocess.run(["ip", "netns", "add", f"{self._name}{end}"], check=True)
            self.run(end, "ip link set lo up")
        for end, (interface, own, others, gateway) in WIRES.items():
            peer = f"peer name eth0 netns {self._name}{end}"
            self.run("s", f"ip link add {interface} type veth {peer}")
            self.run("s", f"ip addr add {own} dev {interface}")
            self.run("s", f"ip link set {interface} up")
            for other in others:
                self.run(end, f"ip addr add {other} dev eth0")
            self._plug_in(end)
            if gateway:
                self.run(end, f"ip route add default via {gateway}")
        if self._beside:
            self._bridge()
        for address in BEHIND:
            self.run("w", f"ip addr add {address}/32 dev lo")
        self.run("s", "ip route add default via 203.0.113.9")
        with inside(self.server):
            Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        for end in self._names:
            for port in (22, 53, 80, 8000):
                self.listen(end, port)
        for port in (2042, 3260, 8470, 8471, 9040):
            self.listen("s", port)
        for end, address, port in (("w", RESOLVER, 53), ("b", INETSIM, 53), ("s", SERVER, 53)):
            self._answer(end, address, port)
        self._thread.start()

    def _bridge(self) -> None:
        """Put a bridge in the place of the card, and plug the card into it."""
        _, own, *_ = WIRES["1"]
        ports = {"1": "port1", **{end: f"port{end}" for end in self._beside}}
        for command in (
            f"link set {LAB} down",
            f"addr flush dev {LAB}",
            f"link set {LAB} name {ports['1']}",
            f"link add {LAB} type bridge",
            f"addr add {own} dev {LAB}",
            f"link set {LAB} up",
            *(f"link add {ports[end]} type veth peer name eth0 netns {self._name}{end}"
              for end in self._beside),
            *(f"link set {port} master {LAB} up" for port in ports.values()),
        ):  # fmt: skip
            self.run("s", f"ip {command}")
        for end, address in self._beside.items():
            self.run(end, f"ip addr add {address}/24 dev eth0")
            self._plug_in(end)

    def _plug_in(self, end: str) -> None:
        if end in MACS:
            self.run(end, f"ip link set eth0 address {MACS[end]}")
        self.run(end, "ip link set eth0 up")

    def down(self) -> None:
        self._over.set()
        if self._thread.ident:
            self._thread.join()
        self._sockets.close()
        self._ends.close()
        for end in self._names:
            subprocess.run(["ip", "netns", "del", f"{self._name}{end}"], check=False)

    def listen(self, end: str, port: int) -> None:
        """Tell whoever connects which end this is, and to which address and port he came."""
        with inside(self.namespace(end)):
            listener = socket.create_server(("0.0.0.0", port))  # noqa: S104

        def greet() -> None:
            peer, _ = listener.accept()
            with peer, contextlib.suppress(OSError):
                peer.sendall("{} {}:{}".format(end, *peer.getsockname()).encode())

        self._serve(listener, greet)

    def datagrams(self, end: str, address: str) -> socket.socket:
        """Return a socket at this address of an end."""
        with inside(self.namespace(end)):
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((address, 4444))
        return sock

    def _answer(self, end: str, address: str, port: int) -> None:
        """Answer each datagram with the name of the end, and who sent it."""
        with inside(self.namespace(end)):
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.bind((address, port))

        def answer() -> None:
            _, sender = sock.recvfrom(2000)
            sock.sendto(f"{end} {sender[0]}".encode(), sender)

        self._serve(sock, answer)

    def _serve(self, sock: socket.socket, answer: Callable[[], None]) -> None:
        self._ends.enter_context(sock)
        self._sockets.register(sock, selectors.EVENT_READ, answer)

    def _loop(self) -> None:
        while not self._over.is_set():
            for key, _ in self._sockets.select(0.05):
                with contextlib.suppress(OSError):  # as when no way leads back
                    key.data()

    def connect(
        self,
        address: str,
        port: int = 80,
        *,
        end: str = "1",
        source: str = "",
        seconds: float = BRIEF,
    ) -> str:
        """Return who answers a TCP connection; "" if nobody does in time."""
        with inside(self.namespace(end)), socket.socket() as guest:
            guest.settimeout(seconds)
            guest.bind((source or _address(end), 0))
            with contextlib.suppress(OSError):
                guest.connect((address, port))
                return guest.recv(100).decode()
        return ""

    def ask(self, address: str, port: int = 53, *, seconds: float = BRIEF) -> str:
        """Return who answers pc1's datagram; "" if nobody does in time."""
        with inside(self.namespace("1")), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as guest:
            guest.settimeout(seconds)
            guest.bind((PC1, 0))
            guest.connect((address, port))
            with contextlib.suppress(OSError):
                guest.send(b"who")
                return guest.recv(100).decode()
        return ""


def _address(end: str) -> str:
    """Return what an end connects from; "" for any."""
    if end in WIRES:
        return WIRES[end][2][0].partition("/")[0]
    return BESIDE.get(end, "")


@contextmanager
def make_routed(*, bridged: bool = False) -> Iterator[Routed]:
    net = Routed(bridged=bridged)
    try:
        net.up()
        yield net
    finally:
        net.down()

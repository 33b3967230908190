"""The connection of a host's session, as the kernels at both ends have it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from ipaddress import IPv4Address

import pytest

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import CancelledError
from cuckoo_zfsiscsi.lab.network import Network
from cuckoo_zfsiscsi.lab.watch import inside
from cuckoo_zfsiscsi.readiness import session
from tests.waiting import HANG, wait

HERE, THERE, PORT = IPv4Address("10.97.0.1"), IPv4Address("10.97.0.2"), 3260
FORGE = """
import socket, sys
from ipaddress import IPv4Address
from cuckoo_zfsiscsi.packets import ACK, ipv4, tcp
from tests.attacks.frames import icmp
here, there, port = *map(IPv4Address, sys.argv[1:3]), int(sys.argv[3])
quoted = ipv4(here, there, socket.IPPROTO_TCP, tcp(here, there, (port, 40000), (1, 1), ACK))
with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as wire:
    for kind, code in ((3, 4), (3, 3), (3, 1), (12, 0)):
        packet = icmp(str(there), str(here), kind, code, bytes.fromhex("00000578") + quoted)
        wire.sendto(packet, (str(here), 0))
"""
HOLD = "import socket, sys; s = socket.create_connection(('10.97.0.1', 3260)); sys.stdin.read()"


def ip(text: str) -> None:
    for line in text.strip().splitlines():
        subprocess.run(["ip", *line.split()], check=True)


class Pair:
    """A server, and a host at the other end of a cable."""

    def __init__(self, name: str) -> None:
        self.here, self.there = Network(f"{name}-a"), f"{name}-b"

    def held(self, quiet: float = 0.0) -> bool:
        return inside(
            self.here,
            lambda: session.is_held(HERE, PORT, THERE, quiet=quiet, deadline=Deadline(HANG)),
        )

    def plug(self) -> None:
        ip(f"netns add {self.there}")
        ip(f"""-n {self.here.name} link add wire type veth peer name eth0 netns {self.there}
            -n {self.here.name} addr add {HERE}/24 dev wire
            -n {self.here.name} link set wire up
            -n {self.there} addr add {THERE}/24 dev eth0
            -n {self.there} link set eth0 up""")


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = Pair(f"zfsiscsi-pulse-{os.getpid()}")
    ip(f"netns add {made.here.name}\n-n {made.here.name} link set lo up")
    try:
        made.plug()
        yield made
    finally:
        for name in (made.here.name, made.there):
            subprocess.run(["ip", "netns", "delete", name], check=False)


@pytest.fixture
def peer(pair: Pair) -> Iterator[tuple[socket.socket, subprocess.Popen[bytes]]]:
    """Connect from the host: the server's end, and the program that holds the other."""

    def listen() -> socket.socket:
        return socket.create_server((str(HERE), PORT))

    server = inside(pair.here, listen)
    argv = ["nsenter", f"--net=/run/netns/{pair.there}", "--", sys.executable, "-c", HOLD]
    with subprocess.Popen(argv, stdin=subprocess.PIPE) as holder:
        end, _ = server.accept()
        yield end, holder
        end.close()
        server.close()
        holder.kill()


def test_no_connection(pair: Pair) -> None:
    assert not pair.held()


def test_a_live_host_answers_however_long_it_was_quiet(
    pair: Pair, peer: tuple[socket.socket, subprocess.Popen[bytes]]
) -> None:
    time.sleep(1.2)
    assert pair.held()
    end, holder = peer
    end.sendall(b"the connection still works")
    assert holder.poll() is None
    assert pair.held()


def test_a_host_that_is_gone(
    pair: Pair,
    peer: tuple[socket.socket, subprocess.Popen[bytes]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gone = time.monotonic()
    ip(f"-n {pair.there} link set eth0 down")
    with monkeypatch.context() as patch:
        patch.setattr(session, "LATELY", HANG)
        assert pair.held(), "a moment ago it spoke: it can't have been started anew"
    time.sleep(1.1)
    assert not pair.held()
    assert not pair.held(quiet=2.5)
    assert time.monotonic() - gone > 2


def test_a_host_that_was_started_anew(
    pair: Pair, peer: tuple[socket.socket, subprocess.Popen[bytes]]
) -> None:
    """Its card answers ARP again, and its connections are forgotten: the kernel there resets."""
    _, holder = peer
    ip(f"-n {pair.there} link set eth0 down")
    ip(f"-n {pair.here.name} link delete wire")
    ip(f"netns delete {pair.there}")
    holder.kill()
    holder.wait()
    pair.plug()
    time.sleep(1.1)
    assert not pair.held()


def test_cancelled(pair: Pair, peer: tuple[socket.socket, subprocess.Popen[bytes]]) -> None:
    ip(f"-n {pair.there} link set eth0 down")
    time.sleep(1.1)
    deadline = Deadline(HANG)
    deadline.cancel.set("the test")

    def ask() -> bool:
        return session.is_held(HERE, PORT, THERE, quiet=3.0, deadline=deadline)

    with pytest.raises(CancelledError):
        inside(pair.here, ask)


def test_errors_that_anyone_can_forge_are_no_answer(
    pair: Pair, peer: tuple[socket.socket, subprocess.Popen[bytes]]
) -> None:
    """ICMP errors quote a segment of the portal's (RFC 792) while a sibling is being fenced.

    Before: the reset failed, and the sibling was quarantined for 10 s and more.
    Now: they are no sign of life, and no failure.
    """
    argv = ["nsenter", f"--net=/run/netns/{pair.there}", "--", sys.executable, "-c", FORGE]
    argv += [str(HERE), str(THERE), str(PORT)]
    end, _ = peer

    def look() -> None:
        with session.listening(HERE, PORT, THERE) as heard:
            subprocess.run(argv, check=True)
            assert not heard()
            end.sendall(b"it acknowledges this")
            wait(heard, what="it is not heard")

    inside(pair.here, look)

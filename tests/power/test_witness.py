"""Signs of life of a host that is a network namespace."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.config import Config
from cuckoo_zfsiscsi.deadline import Cancel, Deadline
from cuckoo_zfsiscsi.errors import CancelledError, PowerError
from cuckoo_zfsiscsi.power import signs
from cuckoo_zfsiscsi.power import witness as module
from cuckoo_zfsiscsi.power.connect import make_witness
from cuckoo_zfsiscsi.power.witness import LINGER, LOOK, HostWitness, Nobody
from tests.clocks import VirtualClock
from tests.config.sample import edit, read
from tests.netboot.network import Network, inside, make_network
from tests.waiting import HANG, wait

HOST = IPv4Address("10.99.0.11")


@pytest.fixture(scope="module")
def net() -> Iterator[Network]:
    with make_network(f"witness{os.getpid()}") as network:
        yield network


@pytest.fixture
def alive(net: Network) -> Iterator[None]:
    """Give the namespace the host's address: its kernel answers ARP and ping then."""
    net.run(net.hosts, f"ip addr add {HOST}/24 dev nic0")
    yield
    net.run(net.hosts, "ip addr flush dev nic0")
    net.run(net.server, "ip neigh flush all")


def config(folder: Path, *more: str) -> Config:
    change = "\n".join(["mac = 00:11:22:33:44:01", *more])
    boot0 = ("[netboot]\ninterface = br-lab", "[netboot]\ninterface = boot0")
    return read(folder, edit(boot0, ("mac = 00:11:22:33:44:01", change)))


def witness(folder: Path, *more: str) -> HostWitness:
    conf = config(folder, *more)
    made = make_witness(conf, conf.host("pc1"))
    assert isinstance(made, HostWitness)
    return made


def look(
    net: Network, seen: HostWitness, since: float = 0.0, deadline: Deadline | None = None
) -> str:
    with inside(net.server):
        return seen.life(since, deadline=deadline or Deadline(HANG))


def test_a_host_that_is_off(net: Network, tmp_path: Path) -> None:
    assert look(net, witness(tmp_path)) == ""


def test_all_kinds_are_looked_for_at_the_same_time(
    tmp_path: Path, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in ("answers_arp", "answers_ping"):
        monkeypatch.setattr(signs, kind, lambda *about: clock.sleep(about[-1]))
    begin = clock.monotonic()
    seen = witness(tmp_path, "power_signs = arp,icmp")
    assert seen.life(0.0, deadline=Deadline(5, clock=clock)) == ""
    assert clock.monotonic() == begin + LOOK


def test_arp_and_ping(net: Network, tmp_path: Path, alive: None) -> None:
    assert look(net, witness(tmp_path)) == "it answers ARP"
    assert look(net, witness(tmp_path, "power_signs = icmp")) == "it answers ping"
    assert look(net, witness(tmp_path, "power_signs = rpc,agent,session")) == ""


@pytest.fixture
def many_files() -> Iterator[None]:
    """Have more files open than select(2) can look at, as a service with many hosts may."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit[1], limit[1]))
    with contextlib.ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, limit)
        while stack.enter_context(Path(os.devnull).open()).fileno() < 1024:
            pass
        yield


@pytest.mark.usefixtures("alive", "many_files")
def test_with_many_open_files(net: Network, tmp_path: Path) -> None:
    assert look(net, witness(tmp_path)) == "it answers ARP"
    assert look(net, witness(tmp_path, "power_signs = icmp")) == "it answers ping"


def test_ping_refused_yet_arp(net: Network, tmp_path: Path, alive: None) -> None:
    """What a guest's firewall hides, its network card still answers."""
    knob = "/proc/sys/net/ipv4/icmp_echo_ignore_all"
    argv = ["nsenter", f"--net={net.hosts}", "--", "sh", "-c"]
    subprocess.run([*argv, f"echo 1 > {knob}"], check=True)
    try:
        assert look(net, witness(tmp_path, "power_signs = icmp")) == ""
        assert look(net, witness(tmp_path)) == "it answers ARP"
    finally:
        subprocess.run([*argv, f"echo 0 > {knob}"], check=True)


@pytest.mark.parametrize("is_pinned", [False, True])
def test_agent(
    net: Network,
    tmp_path: Path,
    alive: None,
    monkeypatch: pytest.MonkeyPatch,
    is_pinned: bool,
) -> None:
    """One that CAPE has pinned answers CAPE alone: it hangs up on us, but it lives."""
    monkeypatch.setattr(module, "LOOK", HANG)
    with inside(net.hosts):
        server = socket.create_server((str(HOST), 8000))
    body = b'{"message": "CAPE Agent!"}'
    answer = b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body

    def serve() -> None:
        peer, _ = server.accept()
        with peer:
            peer.recv(1000)
            peer.sendall(b"" if is_pinned else answer)

    thread = threading.Thread(target=serve)
    thread.start()
    with server:
        assert look(net, witness(tmp_path, "power_signs = rpc,agent")) == "its agent answers"
        thread.join()


def test_session_that_goes_on(
    net: Network, tmp_path: Path, alive: None, clock: VirtualClock
) -> None:
    """A connection outlives its host: only what still comes through it is a sign.

    The kernel tells by its own clock when something came; since when it counts is up to ours.
    """
    deadline = Deadline(2 * HANG, clock=clock)
    with inside(net.server):
        portal = socket.create_server(("10.99.0.1", 3271))
    with inside(net.hosts):
        guest = socket.create_connection(("10.99.0.1", 3271))
    peer, _ = portal.accept()
    seen = witness(tmp_path, "power_signs = session")
    with portal, guest, peer:
        guest.sendall(b"nop")
        time.sleep(0.2)
        begin = clock.monotonic()
        assert look(net, seen, begin, deadline) == ""
        clock.sleep(LINGER + 0.05)
        assert look(net, seen, begin, deadline) == ""
        clock.sleep(HANG)
        guest.sendall(b"nop")
        wait(
            lambda: look(net, seen, begin, deadline) == "its iSCSI session goes on",
            what="its packet is no sign",
        )


def test_boot_is_seen_once_noted(tmp_path: Path) -> None:
    seen = witness(tmp_path)
    assert seen.boot(0.0) == ""
    seen.note("dhcp", 1001.0)
    assert seen.boot(1000.0) == "dhcp request"
    assert seen.boot(1002.0) == ""


def test_what_can_not_be_looked_for(net: Network, tmp_path: Path) -> None:
    conf = config(tmp_path, "power_signs = arp")
    other = conf.netboot.model_copy(update={"interface": "none0"})
    broken = HostWitness(conf.model_copy(update={"netboot": other}), conf.host("pc1"))
    with pytest.raises(PowerError, match="pc1: arp can't be looked for") as unable:
        look(net, broken)
    assert "power_signs" in unable.value.fix


def test_nobody_sees_nothing(tmp_path: Path) -> None:
    conf = config(tmp_path, "power_signs = off")
    nobody = make_witness(conf, conf.host("pc1"))
    assert isinstance(nobody, Nobody)
    assert nobody.life(0.0, deadline=Deadline(1)) == nobody.boot(0.0) == ""


def test_cancelled(net: Network, tmp_path: Path) -> None:
    cancel = Cancel()
    cancel.set("stop")
    with inside(net.server), pytest.raises(CancelledError):
        witness(tmp_path).life(0.0, deadline=Deadline(HANG, cancel))


def test_arp_answers_of_others_do_not_count(net: Network, alive: None) -> None:
    with inside(net.server):
        own = IPv4Address("10.99.0.1")
        assert signs.answers_arp("boot0", own, HOST, HANG)
        assert not signs.answers_arp("boot0", own, IPv4Address("10.99.0.12"), 0.3)


def test_what_came_in_time_counts_however_late_it_is_looked_at() -> None:
    peer, wire = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with peer, wire:
        for said in (b"other", b"answer", b"other"):
            peer.send(said)
        assert signs._await(wire, b"answer".__eq__, 0.0)
        assert not signs._await(wire, b"answer".__eq__, 0.0)


def test_a_flood_of_others_packets_has_an_end() -> None:
    peer, wire = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with peer, wire:
        looks = []

        def look(packet: bytes) -> bool:
            looks.append(packet)
            peer.send(packet)  # as many come as are read
            return False

        peer.send(b"other")
        assert not signs._await(wire, look, 0.0)
        assert len(looks) == signs.UNREAD

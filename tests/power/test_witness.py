"""Signs of life of a host that is a network namespace."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from cuckoo_zfsiscsi.config import Config
from cuckoo_zfsiscsi.deadline import Cancel, Deadline
from cuckoo_zfsiscsi.errors import CancelledError, PowerError
from cuckoo_zfsiscsi.packets import Card
from cuckoo_zfsiscsi.power import signs
from cuckoo_zfsiscsi.power import witness as module
from cuckoo_zfsiscsi.power.connect import make_witness
from cuckoo_zfsiscsi.power.witness import AFTER_FENCE, LOOK, HostWitness, Life, Nobody
from cuckoo_zfsiscsi.readiness import Answer
from tests.clocks import VirtualClock
from tests.config.sample import edit, read
from tests.netboot.network import Network, inside, make_network
from tests.waiting import HANG, wait

HOST, OWN = IPv4Address("10.99.0.11"), IPv4Address("10.99.0.1")
CARD, SIBLING, STRANGER = (f"00:11:22:33:44:{end}" for end in ("01", "02", "77"))
HEARD = Answer(ok=True, detail="", seconds=0.0, heard=True)
AT_ONCE = 0.6
"""power_quiet's least: seconds of a look that must see all."""


@pytest.fixture(scope="module")
def net() -> Iterator[Network]:
    with make_network(f"witness{os.getpid()}") as network:
        wear(network, CARD)
        yield network


def wear(net: Network, mac: str) -> None:
    """Give the hosts' card a MAC address, as malware can."""
    net.run(net.hosts, f"ip link set nic0 address {mac}")


@pytest.fixture
def alive(net: Network) -> Iterator[None]:
    """Give the namespace the host's address: its kernel answers ARP and ping then."""
    net.run(net.hosts, f"ip addr add {HOST}/24 dev nic0")
    yield
    net.run(net.hosts, "ip addr flush dev nic0")
    wear(net, CARD)
    net.run(net.server, "ip neigh flush all")


def config(folder: Path, *more: str) -> Config:
    change = "\n".join(["mac = 00:11:22:33:44:01", *more])
    boot0 = ("[netboot]\ninterface = br-lab", "[netboot]\ninterface = boot0")
    return read(folder, edit(boot0, ("mac = 00:11:22:33:44:01", change)))


class Log:
    """Who was accused of what, and who is off."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []
        self.off: set[str] = set()

    def accuse(self, mac: str, what: str) -> None:
        self.lines.append((mac, what))


def witness(folder: Path, *more: str, log: Log | None = None) -> HostWitness:
    conf, log = config(folder, *more), log or Log()
    made = make_witness(conf, conf.host("pc1"), log.accuse, log.off.__contains__)
    assert isinstance(made, HostWitness)
    return made


def look(
    net: Network, seen: HostWitness, deadline: Deadline | None = None, seconds: float = LOOK
) -> str:
    return str(life(net, seen, deadline, seconds))


def life(
    net: Network, seen: HostWitness, deadline: Deadline | None = None, seconds: float = LOOK
) -> Life:
    with inside(net.server):
        return seen.look(seconds=seconds, deadline=deadline or Deadline(HANG))


def test_a_host_that_is_off(net: Network, tmp_path: Path) -> None:
    assert look(net, witness(tmp_path)) == ""


def test_all_kinds_are_looked_for_at_the_same_time(
    tmp_path: Path, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nobody(*about: Any) -> frozenset[str]:
        clock.sleep(about[-1])
        return frozenset()

    for kind in ("arp", "ping"):
        monkeypatch.setattr(signs, kind, nobody)
    begin = clock.monotonic()
    seen = witness(tmp_path, "power_signs = arp,icmp")
    assert not seen.look(deadline=Deadline(5, clock=clock))
    assert clock.monotonic() == begin + LOOK
    assert not seen.look(seconds=3.0, deadline=Deadline(5, clock=clock))
    assert clock.monotonic() == begin + LOOK + 3.0


def test_arp_and_ping(net: Network, tmp_path: Path, alive: None) -> None:
    assert look(net, witness(tmp_path)) == f"it answers ARP (from {CARD})"
    assert look(net, witness(tmp_path, "power_signs = icmp")) == f"it answers ping (from {CARD})"
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
    assert look(net, witness(tmp_path)) == f"it answers ARP (from {CARD})"
    assert look(net, witness(tmp_path, "power_signs = icmp")) == f"it answers ping (from {CARD})"


def test_ping_refused_yet_arp(net: Network, tmp_path: Path, alive: None) -> None:
    """What a guest's firewall hides, its network card still answers."""
    knob = "/proc/sys/net/ipv4/icmp_echo_ignore_all"
    argv = ["nsenter", f"--net={net.hosts}", "--", "sh", "-c"]
    subprocess.run([*argv, f"echo 1 > {knob}"], check=True)
    try:
        assert look(net, witness(tmp_path, "power_signs = icmp")) == ""
        assert look(net, witness(tmp_path)) == f"it answers ARP (from {CARD})"
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


@contextlib.contextmanager
def logged_in(net: Network, seen: HostWitness) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Connect the host to its portal: the server's end, and the host's."""
    with inside(net.server):
        portal = socket.create_server((str(OWN), seen._port))
    with inside(net.hosts):
        guest = socket.create_connection((str(OWN), seen._port))
    peer, _ = portal.accept()
    with portal, guest, peer:
        yield peer, guest


@contextlib.contextmanager
def unplugged(net: Network) -> Iterator[None]:
    """Take the host's cable, as a cut of its power would."""
    net.run(net.hosts, "ip link set nic0 down")
    try:
        yield
    finally:
        net.run(net.hosts, "ip link set nic0 up")


def test_session_that_goes_on(net: Network, tmp_path: Path, alive: None) -> None:
    """A connection outlives its host: only what still answers on it is a sign, and at once."""
    seen = witness(tmp_path, "power_signs = session")
    with logged_in(net, seen):
        assert look(net, seen, seconds=AT_ONCE) == "its iSCSI session goes on"
        time.sleep(1.2)  # however quiet it was
        assert look(net, seen, seconds=AT_ONCE) == "its iSCSI session goes on"
        with unplugged(net):
            assert look(net, seen, seconds=AT_ONCE) == ""


@contextlib.contextmanager
def deaf_to_arp(net: Network) -> Iterator[None]:
    """Have the host answer neither ARP nor ping, as root there may have it."""
    knobs = ("conf/all/arp_ignore", 8), ("icmp_echo_ignore_all", 1)
    for knob, value in knobs:
        net.run(net.hosts, f"sysctl -qw net/ipv4/{knob}={value}")
    try:
        yield
    finally:
        for knob, _ in knobs:
            net.run(net.hosts, f"sysctl -qw net/ipv4/{knob}=0")


def test_an_idle_session_of_one_that_hides(net: Network, tmp_path: Path, alive: None) -> None:
    seen = witness(tmp_path)
    with logged_in(net, seen), deaf_to_arp(net):
        assert look(net, witness(tmp_path, "power_signs = arp,icmp"), seconds=AT_ONCE) == ""
        assert look(net, seen, seconds=AT_ONCE) == "its iSCSI session goes on"


def test_one_whom_a_sibling_hides(net: Network, tmp_path: Path, alive: None) -> None:
    """The kernel believes that the sibling has the address: what it sends goes there."""
    seen = witness(tmp_path)
    with logged_in(net, seen), deaf_to_arp(net):
        net.run(net.server, f"ip neigh replace {HOST} lladdr {SIBLING} dev boot0 nud permanent")
        assert look(net, seen, seconds=AT_ONCE) == "its iSCSI session goes on"
        with unplugged(net):
            assert look(net, seen, seconds=AT_ONCE) == ""
        net.run(net.server, f"ip neigh del {HOST} dev boot0")


def test_a_sibling_in_its_place_is_told_and_does_not_count(
    net: Network, tmp_path: Path, alive: None
) -> None:
    wear(net, SIBLING)
    log = Log()
    found = life(net, witness(tmp_path, log=log))
    assert not found
    assert found.others == (f"{SIBLING}, the card of pc2, answers ARP for it",)
    assert log.lines == [(SIBLING, "answers ARP for pc1, 10.99.0.11")]
    log.off.add("pc2")  # it can't be who answers
    found = life(net, witness(tmp_path, log=log))
    assert str(found) == f"{SIBLING}, the card of pc2, which is off, answers ARP for it"


def serve(net: Network, port: int) -> socket.socket:
    with inside(net.hosts):
        return socket.create_server(("", port))


def test_a_sibling_that_has_taken_the_address_with_all_that_it_serves(
    net: Network, tmp_path: Path, alive: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host's own card is asked for RPC then, past all ARP."""
    log, seen = Log(), witness(tmp_path, "power_signs = arp,rpc")
    monkeypatch.setattr(module, "find_probe", lambda _: lambda *_, **__: HEARD)
    with serve(net, 135):
        assert life(net, seen).signs.keys() == {"arp", "rpc"}
        wear(net, SIBLING)
        seen = witness(tmp_path, "power_signs = arp,rpc", log=log)
        assert not life(net, seen)
    assert log.lines == [(SIBLING, "answers ARP for pc1, 10.99.0.11")]


def test_its_own_card_is_asked_for_a_connection(net: Network, alive: None) -> None:
    card, other = Card("boot0", CARD), Card("boot0", SIBLING)
    with serve(net, 135), inside(net.server):
        assert signs.connect(card, OWN, HOST, 135, HANG) == {CARD}
        assert signs.connect(card, OWN, HOST, 136, 0.3) == set(), "refused"
        assert signs.connect(other, OWN, HOST, 135, 0.3) == set()


def test_a_stranger_counts_unless_it_answers_for_everybody(
    net: Network, tmp_path: Path, alive: None
) -> None:
    wear(net, STRANGER)
    log = Log()
    found = life(net, witness(tmp_path, log=log))
    assert str(found) == f"{STRANGER}, no host's card, answers ARP for it"
    net.run(net.hosts, "ip addr add 10.99.0.12/24 dev nic0")
    found = life(net, witness(tmp_path, log=log))
    assert not found
    (other,) = found.others
    assert other == f"{STRANGER}, no host's card, which answers for others too, answers ARP for it"
    assert log.lines == [(STRANGER, "answers ARP for pc1, 10.99.0.11")]


@pytest.mark.parametrize("how", ["end", "reset"])
def test_one_that_lives_answers_the_loss_of_its_session(
    net: Network, tmp_path: Path, alive: None, how: str
) -> None:
    seen = witness(tmp_path)
    with logged_in(net, seen) as (peer, _), inside(net.server), seen.listening() as heard:
        assert heard
        assert not heard()
        if how == "end":
            peer.close()
        else:  # as the kernel does it for a fence (ss -K)
            subprocess.run(["ss", "-K", "-HntO", f"dst {HOST}"], check=True, capture_output=True)
            with inside(net.hosts), contextlib.suppress(OSError):
                socket.create_connection((str(OWN), seen._port), HANG).close()
        wait(lambda: str(heard()) == AFTER_FENCE, what="its kernel is not heard")


def test_one_that_is_gone_does_not(net: Network, tmp_path: Path, alive: None) -> None:
    seen = witness(tmp_path)
    with (
        logged_in(net, seen) as (peer, _),
        unplugged(net),
        inside(net.server),
        seen.listening() as heard,
    ):
        peer.close()
        time.sleep(AT_ONCE)
        assert heard
        assert not heard()


def test_who_is_not_asked_for_its_session_is_not_listened_to(tmp_path: Path) -> None:
    with witness(tmp_path, "power_signs = arp").listening() as heard:
        assert heard is None


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
    assert str(nobody.look(deadline=Deadline(1))) == nobody.boot(0.0) == ""
    with nobody.listening() as heard:
        assert heard is None


def test_cancelled(net: Network, tmp_path: Path) -> None:
    cancel = Cancel()
    cancel.set("stop")
    with inside(net.server), pytest.raises(CancelledError):
        witness(tmp_path).look(deadline=Deadline(HANG, cancel))


def test_arp_answers_of_others_do_not_count(net: Network, alive: None) -> None:
    card = Card("boot0", CARD)
    with inside(net.server):
        assert signs.arp(card, OWN, HOST, HANG) == {CARD}
        assert signs.arp(card, OWN, IPv4Address("10.99.0.12"), 0.3) == set()


def collect(wire: socket.socket, who: Callable[[bytes], str]) -> frozenset[str]:
    return signs._collect(wire, lambda: None, who, 0.0, "own")


def test_what_came_in_time_counts_however_late_it_is_looked_at() -> None:
    peer, wire = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with peer, wire:
        for said in (b"", b"sibling", b"own", b"other"):
            peer.send(said)
        assert collect(wire, bytes.decode) == {"sibling", "own"}
        assert collect(wire, bytes.decode) == {"other"}


def test_a_flood_of_others_packets_has_an_end() -> None:
    peer, wire = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with peer, wire:
        looks = []

        def look(packet: bytes) -> str:
            looks.append(packet)
            peer.send(packet)  # as many come as are read
            return ""

        peer.send(b"other")
        assert not collect(wire, look)
        assert len(looks) == signs.UNREAD

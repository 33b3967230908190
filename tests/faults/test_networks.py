"""Two networks and the firewall between them: the real service, real sockets from each guest."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.cape.client import Client
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.target import Credentials, Export
from cuckoo_zfsiscsi.errors import ZfsIscsiError
from cuckoo_zfsiscsi.power import signs
from cuckoo_zfsiscsi.readiness.session import is_held
from tests.faults import patience
from tests.faults.attacker import discover
from tests.faults.forked import Child, ForkServer
from tests.iscsi import Initiator, RawInitiator
from tests.netboot.network import inside, make_packet, parse
from tests.netboot.rooter import Rooter, opened
from tests.waiting import HANG, wait

CONF = """\
[zfsiscsi]
machines = pc1,pc2,pc3
interface = boot0
service = http://10.98.0.1:8470
token_file = {at}/token
run_dir = {at}/run

[storage]
path = {at}/store
portal = 10.99.0.1
iqn = iqn.2026-01.org.example

[netboot]
interface = boot0
address = 10.99.0.1/24
gateway = 10.99.0.1

[network:vlan20]
interface = vlan20
address = 10.99.20.1/24
portal = 10.99.20.2
"""
HOST = """
[pc{number}]
label = pc{number}
platform = linux
arch = x64
ip = {ip}
snapshot = golden
mac = {mac}
network = {network}
reset_on = boot
"""
IPS = {1: "10.99.0.11", 2: "10.99.20.12", 3: "10.99.20.13"}
PORTALS = {1: "10.99.0.1", 2: "10.99.20.2", 3: "10.99.20.2"}
DISKS = {number: 3260 + int(ip.rpartition(".")[2]) for number, ip in IPS.items()}
"""TCP ports of their disks, by host."""
SERVERS = {1: "10.99.0.1", 2: "10.99.20.1", 3: "10.99.20.1"}
BMC = "10.98.0.11"


def mac(number: int) -> str:
    return f"52:54:00:98:00:{number:02x}"


class Site:
    """The server, three guests in two networks, and a power device in a third; all are routed."""

    def __init__(self, at: Path, forks: ForkServer) -> None:
        self.at = at
        self._forks = forks
        self.name = f"zn{os.getpid()}"
        self.server = self.namespace("s")
        self.conf, self.log = at / "zfsiscsi.conf", at / "service.log"
        self.golden = os.urandom(1 << 20)
        self.client = Client("http://10.98.0.1:8470", str(at / "token"))
        self._listeners: list[socket.socket] = []
        self._service: Child | None = None

    def namespace(self, end: str | int) -> Path:
        return Path("/run/netns") / f"{self.name}{end}"

    def run(self, end: str | int, *words: str) -> subprocess.CompletedProcess[str]:
        with inside(self.namespace(end)):
            return subprocess.run(words, check=True, capture_output=True, text=True, timeout=HANG)

    def up(self) -> None:
        for end in ("s", 1, 2, 3, "b"):
            subprocess.run(["ip", "netns", "add", f"{self.name}{end}"], check=True)
            self.run(end, "ip", "link", "set", "lo", "up")
        commands = [
            f"link add boot0 type veth peer eth0 netns {self.name}1",
            "link add vlan20 type bridge",
            f"link add port2 type veth peer eth0 netns {self.name}2",
            f"link add port3 type veth peer eth0 netns {self.name}3",
            f"link add bmc0 type veth peer eth0 netns {self.name}b",
            "link set port2 master vlan20 up",
            "link set port3 master vlan20 up",
            "addr add 10.99.0.1/24 dev boot0",
            "addr add 10.99.20.1/24 dev vlan20",
            "addr add 10.99.20.2/24 dev vlan20",
            "addr add 10.98.0.1/24 dev bmc0",
            *(f"link set {name} up" for name in ("boot0", "vlan20", "bmc0")),
        ]
        for command in commands:
            self.run("s", "ip", *command.split())
        with inside(self.server):
            Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        ends = [(str(number), ip, SERVERS[number]) for number, ip in IPS.items()]
        for end, address, router in [*ends, ("b", BMC, "10.98.0.1")]:
            if end != "b":
                self.run(end, "ip", "link", "set", "eth0", "address", mac(int(end)))
            self.run(end, "ip", "addr", "add", f"{address}/24", "dev", "eth0")
            self.run(end, "ip", "link", "set", "eth0", "up")
            self.run(end, "ip", "route", "add", "default", "via", router)
        listening = [("s", "10.99.0.1", 2042), ("s", "10.99.20.1", 2042), ("s", "", 22)]
        listening += [("b", BMC, 443), *((str(number), ip, 8000) for number, ip in IPS.items())]
        for end, address, port in listening:
            with inside(self.namespace(end)):
                self._listeners.append(socket.create_server((address, port)))

    def start(self) -> None:
        text = CONF.format(at=self.at)
        for number, ip in IPS.items():
            network = "netboot" if number == 1 else "vlan20"
            text += HOST.format(number=number, ip=ip, mac=mac(number), network=network)
        self.conf.write_text(text)
        (self.at / "token").touch(0o600)
        (self.at / "token").write_text("a-token-of-the-test\n")
        (self.at / "golden.raw").write_bytes(self.golden)
        self.zfsiscsi("image", "import", "golden", str(self.at / "golden.raw"))
        words = ["--conf", str(self.conf), "serve"]
        with self.log.open("ab") as log:
            self._service = self._forks.fork(
                words, namespace=self.server, cwd=self.at, outputs=[log, log]
            )
        self.wait_for_log("serving 3 hosts")
        self.wait(lambda: set(self.states()) == {"clean"}, "the first disks")

    def states(self) -> list[str]:
        """Return every host's state, none while the service does not answer."""
        with inside(self.server), contextlib.suppress(ZfsIscsiError):
            return [str(host["state"]) for host in self.client.hosts()]
        return []

    def wait(self, true: Callable[[], object], what: str) -> None:
        wait(true, what=f"waited for {what}", seen=self.seen, pause=0.05)

    def seen(self) -> str:
        """Tell what there is to see of the service."""
        ended = self._service.poll() if self._service else None
        life = "runs" if ended is None else f"has ended with {ended}"
        return f"the service {life}; its hosts are {self.states()}; {patience.tail(self.log)}"

    def zfsiscsi(self, *words: str) -> str:
        """Run the command line on the server; return what it printed."""
        words = ("--conf", str(self.conf), *words)
        code, out, err = self._forks.run(words, namespace=self.server, cwd=self.at)
        assert code == 0, err
        return out

    def fence(self) -> None:
        """Have the server's firewall as its unit loads it. May be called again."""
        self.zfsiscsi("netboot", "firewall", "--apply")

    def wait_for_log(self, words: str) -> None:
        self.wait(lambda: words in self.log.read_text(), f"{words!r} in the log")

    def close(self) -> None:
        if service := self._service:
            service.send_signal(signal.SIGTERM)
            self.wait(lambda: service.poll() is not None, "the service's end")
        for listener in self._listeners:
            listener.close()
        for end in ("s", 1, 2, 3, "b"):
            subprocess.run(["ip", "netns", "del", f"{self.name}{end}"], check=False)
        subprocess.run(["chattr", "-R", "-f", "-i", str(self.at)], check=False)

    def reaches(self, end: str | int, address: str, port: int) -> bool:
        """Whether a TCP connection from there is accepted within half a second."""
        with inside(self.namespace(end)), contextlib.suppress(OSError):
            socket.create_connection((address, port), 0.5).close()
            return True
        return False

    def script(self, number: int, server: str) -> str:
        """Ask for a guest's boot script at an address of the server's; "" if there is none."""
        url = f"http://{server}:8471/boot.ipxe?mac={mac(number)}"
        with (
            inside(self.namespace(number)),
            contextlib.suppress(urllib.error.HTTPError),
            urllib.request.urlopen(url, timeout=HANG) as answer,
        ):
            return str(answer.read().decode())
        return ""

    def login(self, number: int, script: str) -> Initiator:
        """Log in as the script says, from the guest."""
        found = re.search(r"^sanboot .* iscsi:([0-9.]+)::(\d+):(\w+):(\S+) ", script, re.M)
        names = dict(re.findall(r"^set (initiator-iqn|username|password) (\S+)$", script, re.M))
        assert found
        who = Credentials(names["initiator-iqn"], names["username"], names["password"])
        export = Export(found[1], int(found[2]), found[4], int(found[3], 16), who)
        with inside(self.namespace(number)):
            return Initiator(export)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, forks: ForkServer) -> Iterator[Site]:
    made = Site(tmp_path_factory.mktemp("site"), forks)
    try:
        made.up()
        made.start()
        yield made
    finally:
        made.close()


def test_each_network_has_its_own_portal(site: Site) -> None:
    for number in (1, 2):
        other = SERVERS[2 if number == 1 else 1]
        assert site.script(number, other) == "", "in another network than its own"
        site.wait_for_log(f"it asked at {other}, and the network of pc{number} is that of ")
        script = site.script(number, SERVERS[number])
        assert f"iscsi:{PORTALS[number]}::{DISKS[number]}:" in script
        with site.login(number, script) as disk:
            assert disk.read(0) == site.golden[:512]
    assert f"pc1 ({mac(1)}) gets no boot script" in site.log.read_text()


def test_a_card_in_another_network_is_named(site: Site) -> None:
    card = bytes.fromhex(mac(2).replace(":", ""))
    with inside(site.namespace(1)), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
        wire.bind(("eth0", 0))
        wire.send(discover(card, card))
    site.wait_for_log(
        f"pc2 ({mac(2)}) asks for an address on boot0, but its network is that of vlan20"
    )
    assert f"DHCPOFFER(boot0) {IPS[2]}" not in site.log.read_text()


FORBIDDEN = {
    "the control API": ("10.98.0.1", 8470),
    "the server's ssh": ("10.99.0.1", 22),
    "the server's ssh, by its address in the power devices' network": ("10.98.0.1", 22),
    "a power device": (BMC, 443),
    "a guest of another network": (IPS[2], 8000),
    "a guest's portal in another network": (PORTALS[2], DISKS[2]),
    "the boot listener of another network": (SERVERS[2], 8471),
    "the result server of another network": (SERVERS[2], 2042),
}


def offered(site: Site, number: int) -> str:
    """Ask for a boot script until there is one: not while the last session goes on."""
    return wait(lambda: site.script(number, SERVERS[number]), seen=site.seen, pause=0.1)


def renewed(site: Site, number: int) -> str:
    """Ask for the address again, from the address itself; return what the server gave."""
    _, packet = make_packet(mac(number), 3, {})
    packet = packet[:10] + bytes(2) + IPv4Address(IPS[number]).packed + packet[16:]
    with inside(site.namespace(number)), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as guest:
        guest.bind((IPS[number], 68))
        guest.settimeout(HANG)
        guest.sendto(packet, (SERVERS[number], 67))
        return parse(guest.recv(2000)).ip


def lease(site: Site, number: int) -> str:
    script = site.at / "on-lease"
    script.write_text("#!/bin/sh\nexit 0\n")
    script.chmod(0o755)
    words = ["-i", "eth0", "-s", str(script), "-n", "-q", "-f", "-T", "1"]
    return site.run(number, "busybox", "udhcpc", *words).stderr


def test_a_guest_reaches_what_it_boots_from_and_nothing_else(site: Site) -> None:
    for what, where in FORBIDDEN.items():
        assert site.reaches(1, *where), f"without rules the test would show nothing: {what}"
    assert site.reaches(2, IPS[3], 8000)
    assert site.reaches("b", IPS[1], 8000)

    with inside(site.namespace(2)):
        early = RawInitiator(Export(PORTALS[2], DISKS[2], "", 1, Credentials("", "", "")))
        early.connect()
    for _ in range(2):  # a second time replaces the first
        site.fence()
    for card in ("port2", "port3"):  # as docs/switch.rst has it
        site.run("s", "bridge", "link", "set", "dev", card, "isolated", "on")

    with contextlib.closing(early):  # a session goes on
        assert b"pc1" not in early.discover("iqn.2026-01.org.example:any")
    refused = {what: site.reaches(1, *where) for what, where in FORBIDDEN.items()}
    assert not any(refused.values()), refused
    assert not site.reaches(2, IPS[3], 8000), "a sibling on the same bridge"
    assert not site.reaches("b", IPS[1], 8000), "a power device that was taken over"
    for number in (1, 2):
        server = SERVERS[number]
        for port in (8471, 2042):
            assert site.reaches(number, server, port)
        assert site.reaches(number, PORTALS[number], DISKS[number])
        assert IPS[number] in lease(site, number)
        copy = site.at / f"copy{number}"
        site.run(number, "busybox", "tftp", "-g", "-r", "ipxe.efi", "-l", str(copy), server)
        assert copy.read_bytes() == Path("/usr/lib/ipxe/ipxe.efi").read_bytes()
        assert site.reaches("s", IPS[number], 8000), "the agent"
        with inside(site.server):
            assert signs.answers_ping(IPv4Address(IPS[number]), HANG)
    assert site.reaches("b", "10.98.0.1", 8470), "others are not concerned"


ROUTES = {
    "none": ("drop", IPS[1], "2042"),
    "inetsim": ("inetsim", IPS[1], BMC, "53", "2042", "80:443"),
    "tor": ("socks5", IPS[1], "2042", "53", "22"),
}


@pytest.mark.parametrize("route", ROUTES)
def test_a_route_stops_neither_disk_nor_boot(site: Site, tmp_path: Path, route: str) -> None:
    """A guest reboots within its run, under the rules of CAPE's rooter."""
    site.fence()
    with contextlib.closing(Rooter(site.server, tmp_path)) as rooter:
        rooter.start_cape("bmc0")
        early = site.login(1, offered(site, 1))
        with opened(rooter, *ROUTES[route]):
            with early:
                assert early.read(0) == site.golden[:512], "the disk of the system that runs"
            assert IPS[1] in lease(site, 1)
            assert IPS[1] == renewed(site, 1)
            copy = site.at / f"copy-{route}"
            site.run(1, "busybox", "tftp", "-g", "-r", "ipxe.efi", "-l", str(copy), SERVERS[1])
            assert copy.read_bytes() == Path("/usr/lib/ipxe/ipxe.efi").read_bytes()
            with site.login(1, offered(site, 1)) as disk:
                assert disk.read(0) == site.golden[:512]
            with inside(site.server):
                assert signs.answers_ping(IPv4Address(IPS[1]), HANG)


def test_a_forged_address_does_not_pass_the_firewall(site: Site) -> None:
    """One of no host of this network, as a guest of another network would use it."""
    site.fence()
    for forged in ("10.99.20.77", IPS[1]):
        site.run(2, "ip", "addr", "add", f"{forged}/32", "dev", "eth0")
        with inside(site.namespace(2)), socket.socket() as guest:
            guest.settimeout(1.0)
            guest.bind((forged, 0))
            with pytest.raises(OSError, match="timed out"):
                guest.connect((PORTALS[2], DISKS[2]))
        site.run(2, "ip", "addr", "del", f"{forged}/32", "dev", "eth0")


def test_the_firewall_lets_a_quiet_session_be_asked(site: Site) -> None:
    """What proves that a guest is gone are packets outside of any window: readiness.session."""
    site.fence()
    with inside(site.namespace(2)):
        guest = socket.create_connection((PORTALS[2], DISKS[2]), HANG)
    with guest:
        time.sleep(1.2)  # longer than what counts as heard lately
        found: list[bool] = []

        def ask() -> None:
            with inside(site.server):
                host, portal = IPv4Address(IPS[2]), IPv4Address(PORTALS[2])
                found.append(is_held(portal, DISKS[2], host, quiet=0.0, deadline=Deadline(HANG)))

        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
    assert found == [True]

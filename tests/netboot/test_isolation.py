"""What the firewall lets pass under each of CAPE's routes: nft, iptables, rooter, real packets."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.config import Config
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.netboot import flows
from cuckoo_zfsiscsi.netboot.firewall import Server, apply, look, remove
from tests.config.sample import read
from tests.netboot import routed as r
from tests.netboot.network import inside
from tests.netboot.rooter import Rooter, opened
from tests.netboot.routed import Routed
from tests.waiting import HANG

Address = tuple[str, int]
LONG = 60.0
"""Seconds, for what must be answered."""
NONE = ("drop", r.PC1, "2042")
INTERNET = ("forward", r.LAB, r.WAN, r.PC1)
INETSIM = ("inetsim", r.PC1, r.INETSIM, "53", "2042", "80:80")


@pytest.fixture(scope="module")
def net() -> Iterator[Routed]:
    with r.make_routed() as made:
        yield made


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return read(tmp_path, r.CONF)


@pytest.fixture
def rooter(net: Routed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rooter]:
    """CAPE's, on a server without rules."""
    flush(net)
    with contextlib.closing(Rooter(net.server, tmp_path_factory.mktemp("rooter"))) as made:
        yield made
    flush(net)


def flush(net: Routed) -> None:
    net.run("s", "nft flush ruleset")


def fence(net: Routed, config: Config) -> None:
    with inside(net.server):
        apply(config, Server(resolver=IPv4Address(r.RESOLVER)), Deadline(HANG))


def boots(net: Routed) -> bool:
    """Whether disk and boot listener answer, from where pc1 asks."""
    return all(
        net.connect(r.SERVER, port, seconds=LONG) == f"s {r.SERVER}:{port}"
        for port in (3260, 8471, 2042)
    )


FORBIDDEN = {
    "a sibling in another network": (r.PC2, 8000),
    "a power device": (r.BMC, 80),
    "another machine in the power devices' network": (r.INETSIM, 80),
    "the server's ssh": (r.SERVER, 22),
    "the server's ssh by another of its addresses": ("203.0.113.1", 22),
    "the control API": ("10.98.0.1", 8470),
    "the portal of another network": (r.SERVER2, 3260),
    "a private address behind the way out": (r.PRIVATE, 80),
}


def forbidden(net: Routed, seconds: float = r.BRIEF) -> list[str]:
    """Return what of it pc1 reaches."""
    with ThreadPoolExecutor(len(FORBIDDEN)) as pool:
        reached = pool.map(lambda where: net.connect(*where, seconds=seconds), FORBIDDEN.values())
    return [what for what, answer in zip(FORBIDDEN, reached, strict=True) if answer]


def test_without_the_firewall_it_would_show_nothing(net: Routed, rooter: Rooter) -> None:
    net.run("s", f"iptables -t nat -A POSTROUTING -o {r.WAN} -j MASQUERADE")
    assert set(forbidden(net, LONG)) == set(FORBIDDEN)
    assert net.connect(r.PUBLIC, seconds=LONG)
    assert net.connect(r.ALLOWED, seconds=LONG)
    net.run("s", "iptables -t nat -F")
    with opened(rooter, *NONE):
        assert not net.connect(r.SERVER, 3260), "the rooter's route none stops the disk"


def test_without_a_run_nothing_leaves(net: Routed, rooter: Rooter, config: Config) -> None:
    fence(net, config)
    assert net.run("s", "iptables -S FORWARD").startswith("-P FORWARD DROP")
    assert boots(net)
    assert not any(net.connect(where) for where in (r.PUBLIC, r.ALLOWED))
    assert not net.ask(r.SERVER)
    assert forbidden(net) == []


@pytest.mark.parametrize("order", ["firewall first", "CAPE first", "within the run"])
def test_route_none(net: Routed, rooter: Rooter, config: Config, order: str) -> None:
    if order == "firewall first":
        fence(net, config)
    rooter.start_cape(r.WAN)
    if order == "CAPE first":
        fence(net, config)
    with opened(rooter, *NONE):
        fence(net, config)
        assert boots(net)
        assert net.connect(r.PC1, 8000, end="s", seconds=LONG) == f"1 {r.PC1}:8000"
        assert net.connect(r.PC1, 80, end="s", seconds=LONG), "what the server itself begins"
        assert not any(net.connect(where) for where in (r.PUBLIC, r.ALLOWED))
        assert not net.ask(r.SERVER), "a name server"
        assert forbidden(net) == []
    assert boots(net)


def test_route_internet(net: Routed, rooter: Rooter, config: Config) -> None:
    rooter.start_cape(r.WAN)
    fence(net, config)
    assert not net.connect(r.PUBLIC)
    with opened(rooter, *INTERNET):
        assert net.connect(r.PUBLIC, seconds=LONG) == f"w {r.PUBLIC}:80"
        assert net.connect(r.ALLOWED, seconds=LONG) == f"w {r.ALLOWED}:80"
        assert net.ask(r.SERVER, seconds=LONG).startswith("w "), "names, from the real resolver"
        assert net.connect(r.SERVER, 53, seconds=LONG) == f"w {r.RESOLVER}:53"
        assert forbidden(net) == []
        assert not net.connect(r.RESOLVER, 80), "the resolver's other ports"
        assert not net.connect(r.PUBLIC, source=r.STRANGER)
        assert not net.connect(r.PUBLIC, end="2"), "a sibling whose run has no route"
        assert not net.connect(r.PC1, 8000, end="w"), "from outside"
        assert not net.connect(r.PC1, 8000, end="b"), "a power device that was taken over"
        assert boots(net)
        fence(net, config)
        assert net.connect(r.PUBLIC, seconds=LONG), "loaded again within the run"
    assert not net.connect(r.PUBLIC)


def test_a_flow_ends_with_its_run(net: Routed, rooter: Rooter, config: Config) -> None:
    """Even if a C2 keeps it alive until the next run, which has no route."""
    rooter.start_cape(r.WAN)
    fence(net, config)
    c2, pc1, pc2 = (net.datagrams(*end) for end in (("w", r.PUBLIC), ("1", r.PC1), ("2", r.PC2)))
    with c2, pc1, pc2, opened(rooter, "forward", r.LAB2, r.WAN, r.PC2):
        with opened(rooter, *INTERNET):
            ways = [call(guest, c2) for guest in (pc1, pc2)]
            assert all(map(hears, [pc1, pc2], [c2, c2], ways))
        with opened(rooter, *NONE):
            assert hears(pc1, c2, ways[0]), "the rooter lets through what is established"
            assert net.connect(r.PC1, 80, end="s", seconds=LONG)
            with inside(net.server):
                gateway = config.default_route(config.host("pc1")).gateway
                assert flows.delete(config.host("pc1"), gateway, Deadline(HANG)) == ""
            assert r.PC1 not in net.run("s", "conntrack -L")
            pc1.sendto(b"to the C2", c2.getsockname())
            assert not hears(pc1, c2, ways[0], seconds=r.BRIEF)
            assert not hears(c2, pc1, c2.getsockname(), seconds=r.BRIEF)
            assert hears(pc2, c2, ways[1]), "a sibling's goes on"


def call(guest: socket.socket, c2: socket.socket) -> Address:
    """Begin a flow; return where the C2 sees it come from."""
    guest.sendto(b"begin", c2.getsockname())
    c2.settimeout(LONG)
    way: Address = c2.recvfrom(100)[1]
    return way


def hears(one: socket.socket, other: socket.socket, way: Address, seconds: float = LONG) -> bool:
    """Tell whether what the other sends that way comes."""
    other.sendto(b"hear", way)
    one.settimeout(seconds)
    with contextlib.suppress(TimeoutError):
        return one.recv(100) == b"hear"
    return False


def test_allow_does_not_reach_siblings_or_power(
    net: Routed, rooter: Rooter, tmp_path: Path
) -> None:
    text = r.CONF.replace(f"allow = {r.ALLOWED}", "allow = 10.0.0.0/8, 192.168.77.0/24")
    rooter.start_cape(r.WAN)
    fence(net, read(tmp_path, text))
    ways = [(r.LAB, out, r.PC1) for out in (r.WAN, r.LAB2, r.BMCS)]
    for way in ways:
        rooter("forward_enable", *way)
    assert net.connect(r.PRIVATE, seconds=LONG)
    assert net.connect(r.INETSIM, seconds=LONG), "no power device itself"
    assert not net.connect(r.BMC)
    assert not net.connect(r.PC2, 8000)
    for way in ways:
        rooter("forward_disable", *way)


def test_route_inetsim(net: Routed, rooter: Rooter, config: Config) -> None:
    """On another machine: it answers for everybody, and nobody else does."""
    rooter.start_cape(r.WAN)
    fence(net, config)
    with opened(rooter, *INETSIM), opened(rooter, "forward", r.LAB, r.BMCS, r.PC1):
        for address in (r.PUBLIC, r.PRIVATE, r.PC2, "10.99.77.1"):
            assert net.connect(address, seconds=LONG) == f"b {r.INETSIM}:80"
        assert net.ask(r.SERVER, seconds=LONG).startswith("b "), "names"
        assert boots(net), "none of these is redirected"
        assert not net.connect(r.PUBLIC, 8000), "a port that it does not serve"
    assert forbidden(net) == []
    assert not net.connect(r.PUBLIC)


@pytest.mark.parametrize("address", [r.SERVER, "203.0.113.1"])
def test_route_inetsim_on_this_server(
    net: Routed, rooter: Rooter, config: Config, address: str
) -> None:
    """The same where nothing needs to be redirected: its names may stand for its own address."""
    rooter.start_cape(r.WAN)
    fence(net, config)
    with opened(rooter, "inetsim", r.PC1, address, "53", "2042", "80:80"):
        for wanted in (r.PUBLIC, address):
            assert net.connect(wanted, seconds=LONG) == f"s {address}:80"
        assert net.connect(r.SERVER, 53, seconds=LONG) == f"s {address}:53"
        assert boots(net)
        assert not net.connect(r.PUBLIC, 8470)
        assert not net.connect(r.PUBLIC, 22)
    assert forbidden(net) == []


def test_inetsim_never_opens_the_control_api(net: Routed, rooter: Rooter, config: Config) -> None:
    fence(net, config)
    way = ("inetsim", r.PC1, r.SERVER, "53", "2042", "8470:8470 81:8470 82:80")
    with opened(rooter, *way):
        assert net.connect(r.PUBLIC, 82, seconds=LONG)
        assert not net.connect(r.PUBLIC, 81)
        assert not net.connect(r.SERVER, 8470)


def test_route_tor(net: Routed, rooter: Rooter, config: Config) -> None:
    rooter.start_cape(r.WAN)
    fence(net, config)
    with opened(rooter, "socks5", r.PC1, "2042", "53", "9040"):
        assert net.connect(r.PUBLIC, seconds=LONG) == f"s {r.SERVER}:9040"
        assert net.connect(r.PC2, 8000, seconds=LONG) == f"s {r.SERVER}:9040"
        assert boots(net), "none of these is redirected"
    assert forbidden(net) == []


def test_route_tunnel(net: Routed, rooter: Rooter, config: Config) -> None:
    """Its rule is one of FORWARD itself."""
    fence(net, config)
    rooter.start_cape(r.WAN)
    with opened(rooter, "interface_route_tun", r.PC1, r.WAN, "7"):
        assert net.connect(r.PUBLIC, seconds=LONG) == f"w {r.PUBLIC}:80"
        assert forbidden(net) == []


def test_the_rooter_cleans_up_after_itself_alone(
    net: Routed, rooter: Rooter, config: Config
) -> None:
    rooter.start_cape(r.WAN)
    fence(net, config)
    rooter("drop_enable", r.PC1, "2042")
    rooter("cleanup_rooter")
    rooter("drop_enable", r.PC1, "2042")
    assert boots(net)
    assert not net.connect(r.PUBLIC)
    assert forbidden(net) == []


def test_what_the_server_publishes_is_not_for_guests(
    net: Routed, rooter: Rooter, config: Config
) -> None:
    """As Docker does it, for containers on this server."""
    net.run("s", f"iptables -t nat -A PREROUTING -p tcp --dport 8081 -m addrtype --dst-type LOCAL "
                 f"-j DNAT --to-destination {r.INETSIM}:80")  # fmt: skip
    net.run("s", f"iptables -A FORWARD -o {r.BMCS} -p tcp --dport 80 -j ACCEPT")
    net.run("s", "iptables -A FORWARD -m conntrack --ctstate ESTABLISHED -j ACCEPT")
    assert net.connect(r.SERVER, 8081, seconds=LONG) == f"b {r.INETSIM}:80"
    fence(net, config)
    assert net.connect("203.0.113.1", 8081, end="w", seconds=LONG), "others are not concerned"
    for address in (r.SERVER, "203.0.113.1"):
        assert not net.connect(address, 8081)


def test_a_host_may_not_come_from_elsewhere(net: Routed, rooter: Rooter, config: Config) -> None:
    rooter.start_cape(r.WAN)
    fence(net, config)
    net.run("2", f"ip addr add {r.PC1}/32 dev lo")
    with opened(rooter, "interface_route_tun", r.PC1, r.WAN, "7"):
        assert net.connect(r.PUBLIC, seconds=LONG)
        sent = dropped(net, "forward")
        assert not net.connect(r.PUBLIC, end="2", source=r.PC1)
        assert dropped(net, "forward") > sent
    net.run("2", f"ip addr del {r.PC1}/32 dev lo")


def test_a_host_by_another_interface_is_judged_too(
    net: Routed, rooter: Rooter, config: Config
) -> None:
    """As with a VRF of CAPE's (no_local_routing), which has an interface of its own."""
    rooter.start_cape(r.WAN)
    fence(net, config)
    net.run("b", f"ip addr add {r.PC1}/32 dev lo")
    with opened(rooter, "interface_route_tun", r.PC1, r.WAN, "7"):
        sent = dropped(net, "through-netboot")
        assert not net.connect(r.PRIVATE, end="b", source=r.PC1)
        assert dropped(net, "through-netboot") > sent
    net.run("b", f"ip addr del {r.PC1}/32 dev lo")


ELSEWHERE = (
    r.CONF.replace(
        f"interface = {r.LAB}\naddress = {r.SERVER}/24",
        f"interface = boot7\naddress = 10.99.0.2/24\ngateway = {r.SERVER}",
    )
    .replace(f"portal = {r.SERVER}", "portal = 10.99.0.2")
    .replace("http://127.0.0.1:8470", f"http://{r.INETSIM}:8470")
    .replace(f"allow = {r.ALLOWED}", "allow = 10.0.0.0/8, 192.168.77.0/24")
)
"""Storage is on another server, in the power devices' network; CAPE is on this one."""


def test_on_capes_server_if_storage_is_on_another(
    net: Routed, rooter: Rooter, tmp_path: Path
) -> None:
    """A copy of zfsiscsi.conf will do: the server knows its own addresses."""
    rooter.start_cape(r.WAN)
    with inside(net.server):
        server = Server(look().addresses, IPv4Address(r.RESOLVER))
        nets = apply(read(tmp_path, ELSEWHERE), server, Deadline(HANG))
    assert nets[0].interface == r.LAB, "not the storage server's"
    assert net.connect(r.SERVER, 2042, seconds=LONG), "its result server"
    assert not net.connect(r.PUBLIC)
    with opened(rooter, *INTERNET), opened(rooter, "forward", r.LAB, r.BMCS, r.PC1):
        assert net.connect(r.PUBLIC, seconds=LONG)
        assert net.ask(r.SERVER, seconds=LONG).startswith("w ")
        assert net.connect(r.PRIVATE, seconds=LONG), "allowed"
        assert forbidden(net) == ["a private address behind the way out"]


def test_of_ipv6_only_what_finds_a_router(net: Routed, rooter: Rooter, config: Config) -> None:
    fence(net, config)
    with inside(net.server):
        server = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
        there = socket.if_nametoindex(r.LAB)
    with inside(net.namespace("1")):
        guest = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
        here = socket.if_nametoindex("eth0")
    with server, guest:
        server.settimeout(HANG)
        guest.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
        for kind in (128, 133):  # a ping, and the question for a router
            guest.sendto(bytes([kind, 0, 0, 0, 0, 0, 0, 0]), ("ff02::1", 0, 0, here))
        heard = set()
        while 133 not in heard:
            data, sender = server.recvfrom(2000)
            if sender[3] == there:
                heard.add(data[0])
    assert 128 not in heard


def dropped(net: Routed, chain: str) -> int:
    lines = net.run("s", f"nft list chain inet zfsiscsi {chain}").splitlines()
    return sum(int(line.split()[line.split().index("packets") + 1])
               for line in lines if "counter" in line)  # fmt: skip


def test_remove(net: Routed, rooter: Rooter, config: Config) -> None:
    fence(net, config)
    rooter("drop_enable", r.PC1, "2042")
    with inside(net.server):
        for _ in range(2):  # the second time there is nothing
            remove(Deadline(HANG))
    assert "zfsiscsi" not in net.run("s", "nft list ruleset")
    assert "--mark" not in net.run("s", "iptables -S FORWARD")
    assert net.connect(r.SERVER, 22) == ""  # the rooter's
    rooter("drop_disable", r.PC1, "2042")
    assert net.connect(r.SERVER, 22, seconds=LONG)
    assert not net.connect(r.PUBLIC), "still not through"


def test_it_is_in_front_once(net: Routed, rooter: Rooter, config: Config) -> None:
    rooter.start_cape(r.WAN)
    rooter("drop_enable", r.PC1, "2042")
    fence(net, config)
    before = net.run("s", "iptables -S")
    net.run("s", "iptables -I OUTPUT -p sctp -j DROP")
    fence(net, config)
    net.run("s", "iptables -D OUTPUT -p sctp -j DROP")
    assert net.run("s", "iptables -S") == before
    assert before.count("-A OUTPUT -j zfsiscsi\n") == 1

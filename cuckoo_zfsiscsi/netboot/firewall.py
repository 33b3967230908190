"""An nftables ruleset (nft(8)): what guests reach on a server, and through it.

It is for the storage server, and for CAPE's if that is another one. Guests on one segment reach
each other past both: that is the switch's to prevent.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import AddressValueError, IPv4Address, IPv4Network, collapse_addresses
from urllib.parse import urlsplit

from cuckoo_zfsiscsi.config import Config
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import NetbootError
from cuckoo_zfsiscsi.netboot import iptables, plain, render_template
from cuckoo_zfsiscsi.netboot.address import own_addresses
from cuckoo_zfsiscsi.netboot.checker import check
from cuckoo_zfsiscsi.netboot.describe import BootNetwork, describe
from cuckoo_zfsiscsi.netboot.resolver import find_resolver
from cuckoo_zfsiscsi.netboot.site import Kind, Rendered, check_text

RESULT_PORT = 2042
"""Of CAPE's result server, unless its host's section says otherwise (cuckoo.conf)."""
NFTABLES = Kind(
    None, lambda _nets: "", test=("nft", "--check", "--file"), install="apt install nftables"
)
TABLES = ("inet zfsiscsi", "bridge zfsiscsi", "arp zfsiscsi")
PUBLISHED = "0x04000000"
"""Bit of a connection's mark: it began towards an address of the server itself."""
DHCP_KIND = 0x350100
"""The option that says which kind of message one of DHCP is, kind added (RFC 2132, 9.6)."""
DHCP_KINDS = (1, 3, 7, 8)
"""Discover, request, release, inform: what clients send, but for a refusal (4)."""
PRIVATE = (
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
    "192.0.0.0/24", "192.168.0.0/16", "198.18.0.0/15", "224.0.0.0/4", "240.0.0.0/4",
)  # fmt: skip
"""What is in no internet (RFC 6890)."""


@dataclass(frozen=True)
class Server:
    """What the rules need to know of the server that they are for."""

    addresses: Mapping[IPv4Address, str] = field(default_factory=dict)
    """Its own, each with its interface."""
    resolver: IPv4Address | None = None
    """Whom it asks for names."""


@dataclass(frozen=True)
class Guarded:
    """A network of hosts, as this server sees it."""

    name: str
    interface: str
    server: IPv4Address
    hosts: tuple[IPv4Address, ...]
    cards: Mapping[IPv4Address, str]
    """Of each of these hosts the MAC address that it alone sends from."""
    disks: tuple[tuple[IPv4Address, str], ...]
    """Host, and its portal's address and port, which no other host reaches."""
    guests: Mapping[str, IPv4Address]
    """Those hosts whose gateway is this server, by label."""
    gateways: tuple[IPv4Address, ...]
    """Own addresses that are these hosts' gateway."""
    names: tuple[IPv4Address, ...]
    """Own addresses that these ask for names."""
    results: tuple[tuple[IPv4Address, str], ...]
    """Host, and its result server's address and port."""
    allow: tuple[IPv4Network, ...]


def look() -> Server:
    """Return what this server says of itself.

    Raises:
        NetbootError: it can't be asked.
    """
    addresses = own_addresses()
    return Server(addresses, find_resolver(addresses))


def guard(config: Config, server: Server) -> tuple[Guarded, ...]:
    """Return the networks, that of [netboot] first.

    Raises:
        NetbootError: a value could change the rules' meaning.
    """
    return tuple(_guard_network(config, server, net) for net in describe(config))


def render(config: Config, server: Server) -> str:
    """Return the ruleset.

    Raises:
        NetbootError: a value could change its meaning.
    """
    nets = guard(config, server)
    return render_template(
        "firewall.nft.j2",
        nets=nets,
        guests=any(net.guests for net in nets),
        interfaces=", ".join(f'"{name}"' for name in interfaces(nets)),
        resolver=server.resolver,
        boot_port=config.netboot.boot_port,
        control_port=urlsplit(config.zfsiscsi.service).port,
        result_port=RESULT_PORT,
        never=_never(config),
        private=PRIVATE,
        dhcp_kinds=[f"{DHCP_KIND + kind:#08x}" for kind in DHCP_KINDS],
        published=PUBLISHED,
        bridged=f"{iptables.BRIDGED:#010x}",
        not_bridged=f"{iptables.BRIDGED ^ 0xFFFFFFFF:#010x}",
    )


def render_checked(config: Config, server: Server, deadline: Deadline) -> Rendered:
    """Return the ruleset as nft(8) has found it right; it can say so to root alone.

    Raises:
        NetbootError: as render(), or nft refuses it.
    """
    text = render(config, server)
    if os.geteuid():
        return Rendered("nftables", text, "nft checks for root alone; sudo")
    return Rendered("nftables", text, check_text(NFTABLES, text, config, deadline))


def apply(config: Config, server: Server, deadline: Deadline) -> tuple[Guarded, ...]:
    """Load the rules, and what iptables needs beside them. May be done again at any time.

    Returns:
        What is guarded now.

    Raises:
        NetbootError: not root, a value could change the rules' meaning, or nft or iptables is
            missing or refuses them.
    """
    _check_root()
    nets, text = guard(config, server), render(config, server)
    load = ("nft", "--file", "-")
    check((*load, "--check"), deadline, install=NFTABLES.install, stdin=text)
    is_gateway = any(net.guests for net in nets)
    # First: what the ruleset lets pass would leave while FORWARD accepts all
    iptables.apply(interfaces(nets), is_gateway=is_gateway, deadline=deadline)
    check(load, deadline, install=NFTABLES.install, stdin=text)
    return nets


def remarks(nets: Iterable[Guarded], server: Server) -> list[str]:
    """Return what an administrator may have meant otherwise."""
    found = []
    if not any({net.server, *net.gateways} & server.addresses.keys() for net in nets):
        found.append(
            "this server has neither the address of a network in zfsiscsi.conf nor that of a "
            "host's gateway: is its network up?"
        )
    if any(net.names for net in nets) and not server.resolver:
        found.append(
            "hosts ask this server for names, but it knows no other name server itself: name one "
            "in /etc/resolv.conf, or set dns in zfsiscsi.conf"
        )
    return found


def remove(deadline: Deadline) -> None:
    """Take away what apply() has put there, if anything. FORWARD goes on dropping.

    Raises:
        NetbootError: not root, or nft or iptables refuses.
    """
    _check_root()
    text = "".join(f"table {table}\ndelete table {table}\n" for table in TABLES)
    check(("nft", "--file", "-"), deadline, install=NFTABLES.install, stdin=text)
    iptables.remove(deadline)


def _check_root() -> None:
    if os.geteuid():
        raise NetbootError("only root may change the firewall", fix="sudo")


def interfaces(nets: Iterable[Guarded]) -> tuple[str, ...]:
    """Return those towards hosts, each once."""
    return tuple(dict.fromkeys(net.interface for net in nets))


def _guard_network(config: Config, server: Server, net: BootNetwork) -> Guarded:
    address, interface = _here(net, server)
    own = {**server.addresses, address: interface}
    hosts = [host for host in config.hosts if host.network == net.name]
    ways = [(host, config.default_route(host)) for host in hosts]
    guests = [(host, way) for host, way in ways if way.gateway in own]
    here = {host.label: way.gateway for host, way in guests if way.gateway}
    names = [name for _, way in guests for name in way.dns if name in own]
    results = []
    for host in hosts:
        result = host.resultserver_ip or here.get(host.label, address)
        port = host.resultserver_port or RESULT_PORT
        results.append((IPv4Address(host.ip), f"{result} . {port}"))
    interface = own[next(iter(here.values()), address)]
    return Guarded(
        name=net.name,
        interface=plain("an interface's name", interface, r"[A-Za-z0-9_.-]{1,15}"),
        server=net.server,
        disks=tuple(
            (IPv4Address(host.ip), f"{net.portal} . {config.portal_port_of(host)}")
            for host in hosts
        ),
        hosts=tuple(IPv4Address(host.ip) for host in hosts),
        cards={host.ip: host.mac for host in net.hosts},
        guests={host.label: IPv4Address(host.ip) for host, _ in guests},
        gateways=tuple(dict.fromkeys(here.values())),
        names=tuple(dict.fromkeys(names)),
        results=tuple(results),
        allow=tuple(collapse_addresses(net.allow)),
    )


def _here(net: BootNetwork, server: Server) -> tuple[IPv4Address, str]:
    """Return this server's address for a network's hosts, and its interface.

    On the storage server both are as zfsiscsi.conf has them, even before an interface has it.
    """
    if net.server not in server.addresses:
        for address, interface in server.addresses.items():
            if address in net.network:
                return address, interface
    return net.server, net.interface


def _never(config: Config) -> list[IPv4Network]:
    """Return what no guest reaches, even if `allow` has it."""
    given = [url.host for host in config.hosts for url in host.power_urls]
    given.append(urlsplit(config.zfsiscsi.service).hostname or "")
    never = [network.address.network for network in config.networks]
    for text in given:
        with suppress(AddressValueError):  # a name, IPv6, or none
            never.append(IPv4Network(IPv4Address(text)))
    return list(collapse_addresses(one for one in never if not one.is_loopback))

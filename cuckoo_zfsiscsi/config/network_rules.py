"""What must hold between the networks, and between them and their hosts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, IPv4Interface
from itertools import combinations
from typing import Any

from cuckoo_zfsiscsi.config.default_route import OFF
from cuckoo_zfsiscsi.config.mistakes import Mistake, nearest
from cuckoo_zfsiscsi.config.networks import MAIN
from cuckoo_zfsiscsi.config.portal import check_ports
from cuckoo_zfsiscsi.config.section import Checked


def check_networks(
    fixed: Mapping[str, Checked], more: Mapping[str, Checked], hosts: Mapping[str, Checked]
) -> Iterator[Mistake]:
    """Check what is right by itself; wrong or missing values are left out.

    Args:
        fixed: the sections that every file has.
        more: those of further networks, by name.
        hosts: those of hosts.
    """
    networks = {MAIN: fixed[MAIN]} | {name: one for name, one in more.items() if name != MAIN}
    if more and fixed[MAIN].values.get("dhcp") == "paper":
        reason = "the paper's servers know one network, and there are sections [network:...]"
        yield _mistake(fixed[MAIN], "dhcp", reason, "dhcp = dnsmasq; or remove these sections")
    for (_, a), (_, b) in combinations(networks.items(), 2):
        yield from _check_apart(a, b)
    taken = {fixed["storage"].values.get("portal"): "storage.portal"}
    for network in networks.values():
        if address := network.values.get("address"):
            taken[address.ip] = f"{network.meant or MAIN}.address"
        if portal := network.values.get("portal"):
            taken[portal] = f"{network.meant}.portal"
    for network in networks.values():
        yield from _check_way_out(network.meant or MAIN, network, network, hosts)
    for name, host in hosts.items():
        yield from _check_host(name, host, networks, taken)
        if (its := networks.get(host.values.get("network", ""))) is not None:
            yield from _check_way_out(name, host, its, hosts)
    yield from check_ports(fixed, networks, hosts)


def _check_apart(a: Checked, b: Checked) -> Iterator[Mistake]:
    """Check that two networks can be told apart."""
    other = f"[{a.meant or MAIN}]"
    for key in ("interface", "ra_prefix"):
        value = b.values.get(key)
        if value is not None and value == a.values.get(key):
            yield _mistake(b, key, f"is the {key} of {other} too", f"give it its own {key}")
    one, two = a.values.get("address"), b.values.get("address")
    if one and two and one.network.overlaps(two.network):
        reason = f"overlaps {one.network}, the network of {other}"
        yield _mistake(b, "address", reason, "give it a network of its own")


def _check_host(
    section: str, host: Checked, networks: Mapping[str, Checked], taken: Mapping[Any, str]
) -> Iterator[Mistake]:
    ip, name = host.values.get("ip"), host.values.get("network")
    if name is not None and name not in networks:
        best = nearest(name, networks)
        fix = f"network = {best}" if best else f"add a section [network:{name}]"
        yield Mistake(section, "network", name, "there is no such network", fix)
    elif name is not None and ip is not None and (problem := _problem(ip, networks[name])):
        reason, fix = problem
        yield Mistake(section, "ip", str(ip), reason, f"give {section} {fix}")
    if ip is not None and ip in taken:
        reason = f"is the server's own address ({taken[ip]})"
        yield Mistake(section, "ip", str(ip), reason, f"give {section} another address")


def _check_way_out(
    section: str, checked: Checked, network: Checked, hosts: Mapping[str, Checked]
) -> Iterator[Mistake]:
    """Check gateway and dns of a section, of a network or of a host in it."""
    gateway, own = checked.values.get("gateway"), network.values.get("address")
    if isinstance(gateway, IPv4Address):
        if problem := _problem(gateway, network):
            reason, fix = problem
            yield Mistake(section, "gateway", str(gateway), reason, f"gateway = {fix}; or off")
        for name, host in hosts.items():
            if host.values.get("ip") == gateway:
                reason = f"is the address of {name}: its sample would see all that passes"
                yield Mistake(section, "gateway", str(gateway), reason, "gateway = CAPE's address")
    if gateway == OFF and own is not None:
        for server in checked.values.get("dns") or ():
            if server not in own.network:
                reason = f"{server} can't be reached without a gateway"
                yield _mistake(checked, "dns", reason, f"a name server in {own.network}; or off")


def _problem(ip: IPv4Address, checked: Checked) -> tuple[str, str] | None:
    """Return reason and fix if a host of this network can't have the address."""
    own: IPv4Interface | None = checked.values.get("address")
    if own is None:
        return None
    network = own.network
    if ip not in network:
        reason = f"is outside {network}, the network of {checked.meant}.address"
        return reason, f"an address in {network}"
    if ip in (network.network_address, network.broadcast_address):
        reason = f"is the first or last address of {network}, no machine can have it"
        return reason, f"another address in {network}"
    return None


def _mistake(checked: Checked, key: str, reason: str, fix: str) -> Mistake:
    return Mistake(checked.meant, key, checked.given[key], reason, fix)

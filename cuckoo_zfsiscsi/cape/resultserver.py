"""CAPE's result server: where it listens, and what the hosts are told of it.

It listens at one address, or with 0.0.0.0 at all. Then CAPE needs resultserver_ip in the section of
each machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cuckoo_zfsiscsi.cape.here import Here, is_in
from cuckoo_zfsiscsi.cape.tree import CapeTree
from cuckoo_zfsiscsi.cape.values import is_on, number
from cuckoo_zfsiscsi.check import Finding
from cuckoo_zfsiscsi.netboot.firewall import RESULT_PORT

RESULT = str(RESULT_PORT)
ANY = "0.0.0.0"  # noqa: S104 - CAPE's word for all of its addresses


def choose_ip(tree: CapeTree, view: dict[str, Any], here: Here) -> str:
    """Return what ip in [resultserver] of cuckoo.conf must be.

    Beside other machineries it stays what it is: their machines may be told of it.

    Raises:
        ConfigError: a file of CAPE can't be read.
    """
    now = tree.get("cuckoo", "resultserver", "ip")
    addresses = {one for one in _told(view, here, now).values() if here.has(one)}
    shared = set(tree.machineries) - {"zfsiscsi"} and tree.is_multi
    if not addresses or now == ANY or shared:
        return now
    return addresses.pop() if len(addresses) == 1 else ANY


def complete(tree: CapeTree, view: dict[str, Any], here: Here) -> dict[str, Any]:
    """Return the view with resultserver_ip for each host to which CAPE would tell a wrong one.

    Raises:
        ConfigError: as choose_ip().
    """
    told = _told(view, here, tree.get("cuckoo", "resultserver", "ip"))
    ip = choose_ip(tree, view, here)
    hosts = [
        {**host, "resultserver_ip": told[host["label"]]}
        if told.get(host["label"], ip) != ip
        else host
        for host in view["hosts"]
    ]
    return {**view, "hosts": hosts}


def choose_port(tree: CapeTree, view: dict[str, Any]) -> str:
    """Return what port in [resultserver] of cuckoo.conf must be.

    Raises:
        ConfigError: as choose_ip().
    """
    now = tree.get("cuckoo", "resultserver", "port")
    ports = {_port(host) for host in view["hosts"]}
    return now if _has_own_ports(tree) or len(ports) != 1 else ports.pop()


def check_result_server(tree: CapeTree, view: dict[str, Any], here: Here) -> Iterator[Finding]:
    """Find what no key that install changes can mend.

    Raises:
        ConfigError: as choose_ip().
    """
    ip = choose_ip(tree, view, here)
    where = f"cuckoo.conf [resultserver] ip = {ip}"
    wrong = [*_check_networks(view, here, ip, where), *_check_told(view, here, ip, where)]
    yield from wrong
    if not wrong and tree.get("cuckoo", "resultserver", "ip") == ip:
        yield Finding("ok", where, "is in the hosts' networks")
    yield from _check_ports(tree, view)


def _check_networks(view: dict[str, Any], here: Here, ip: str, where: str) -> Iterator[Finding]:
    told = _told(view, here, ip)
    for network in view["networks"]:
        lost = [label for label in network["hosts"] if label not in told]
        if lost:
            what = f"{', '.join(lost)} can't reach it: this server has no address in "
            what += network["network"]
            fix = "give CAPE's server one, then zfsiscsi cape install --apply"
            yield Finding("error", where, what, fix)


def _check_told(view: dict[str, Any], here: Here, ip: str, where: str) -> Iterator[Finding]:
    for label, address in _told(view, here, ip).items():
        if not here.has(address):
            what = f"{label} is told {address}, which is not this server's"
            fix = f"resultserver_ip in [{label}] of the service's zfsiscsi.conf"
            yield Finding("error", where, what, fix)
        elif ip not in (ANY, address):
            what = f"does not listen at {address}, which {label} is told"
            fix = f"ip = {ANY}, and resultserver_ip = {ip} for the machines of other machineries"
            yield Finding("error", where, what, fix)


def _told(view: dict[str, Any], here: Here, now: str) -> dict[str, str]:
    """Return where each host is to find the result server; without those that can't.

    Args:
        view: what the service says of its hosts.
        here: CAPE's server.
        now: where it listens now.
    """
    hosts = {host["label"]: host for host in view["hosts"]}
    found = {}
    for network in view["networks"]:
        own = _address(network, here, now)
        for label in network["hosts"]:
            found[label] = hosts[label].get("resultserver_ip") or own
    return {label: address for label, address in found.items() if address}


def _address(network: dict[str, Any], here: Here, now: str) -> str:
    """Return this server's address for the hosts of a network, or nothing.

    It is their gateway, if that is this server: their firewall knows it (netboot.firewall).
    """
    gateway = next((one for one in network["gateways"] if here.has(one)), "")
    fits = here.has(now) and is_in(now, network["network"])
    return gateway or (now if fits else here.address_in(network["network"]))


def _check_ports(tree: CapeTree, view: dict[str, Any]) -> Iterator[Finding]:
    """Compare the port that CAPE tells each host with the one that the service takes it for."""
    if _has_own_ports(tree):
        yield from _check_own_ports(tree, view)
        return
    listens = choose_port(tree, view)
    for host in view["hosts"]:
        if _port(host) != listens:
            what = f"but {host['label']} is told {_port(host)}"
            fix = (
                f"resultserver_port = {listens} in [{host['label']}] of the service's zfsiscsi.conf"
            )
            yield Finding("error", f"cuckoo.conf [resultserver] port = {listens}", what, fix)


def _check_own_ports(tree: CapeTree, view: dict[str, Any]) -> Iterator[Finding]:
    base = int(number(tree.get("cuckoo", "resultserver", "base_port", RESULT)))
    for port, host in enumerate(view["hosts"], base):
        if _port(host) != str(port) and "resultserver_port" not in host:
            where = "cuckoo.conf [resultserver] multiworker = yes"
            what = f"{host['label']} is told port {port}, of which the service knows nothing"
            fix = f"resultserver_port = {port} in [{host['label']}] of the service's zfsiscsi.conf"
            yield Finding("error", where, what, fix)


def _has_own_ports(tree: CapeTree) -> bool:
    """Tell whether CAPE gives each machine a port of its own."""
    return is_on(tree.get("cuckoo", "resultserver", "multiworker"))


def _port(host: dict[str, str]) -> str:
    return host.get("resultserver_port", RESULT)

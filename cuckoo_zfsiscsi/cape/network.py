"""What a run's route needs beside CAPE's own files: gateway, rooter, forwarding, firewall."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from cuckoo_zfsiscsi.cape.here import Here
from cuckoo_zfsiscsi.cape.rooter import RooterError, ask, rooter_socket
from cuckoo_zfsiscsi.cape.routes import NONE, default_route, needs_rooter, routes
from cuckoo_zfsiscsi.cape.tree import CapeTree
from cuckoo_zfsiscsi.check import Finding, Level
from cuckoo_zfsiscsi.doctor.system import StuckError, System

FORWARD = "net.ipv4.ip_forward"
FIREWALL = "zfsiscsi"
"""Name of the table of nftables, and of the chain of iptables, that the firewall makes."""
START_FIREWALL = "systemctl enable --now zfsiscsi-firewall"


def check_network(
    tree: CapeTree, view: dict[str, Any], here: Here, system: System
) -> Iterator[Finding]:
    """Check all of it.

    Args:
        tree: CAPE.
        view: what the service says of its hosts, see service.cape_view.
        here: CAPE's server.
        system: the same.

    Raises:
        ConfigError: a file of CAPE can't be read.
    """
    for network in view["networks"]:
        yield _check_gateway(tree, network, here)
    gateways = [one for network in view["networks"] for one in network["gateways"]]
    yield _check_rooter(tree, wanted=bool(gateways))
    if any(here.has(one) for one in gateways) and _can_leave(tree):
        yield _check_forwarding(system)
    yield _check_firewall(view, here, system)


def _can_leave(tree: CapeTree) -> bool:
    """Tell whether a run may have a route that leads out."""
    return default_route(tree) not in NONE or bool(routes(tree))


def _check_gateway(tree: CapeTree, network: dict[str, Any], here: Here) -> Finding:
    labels = ", ".join(network["hosts"])
    where = f"the service's zfsiscsi.conf [{network['section']}] gateway"
    own = here.address_in(network["network"])
    fix = f"gateway = {own}" if own else f"give this server an address in {network['network']}"
    if own:
        fix += (
            f" in [{network['section']}] of the service's zfsiscsi.conf, then restart the service"
        )
    elsewhere = [one for one in network["gateways"] if not here.has(one)]
    if elsewhere:
        what = f"{', '.join(elsewhere)} of {labels} is not this server: what a sample sends goes "
        return Finding("error", where, f"{what}past CAPE's routes", fix)
    if network["gateways"]:
        what = f"is {', '.join(network['gateways'])}, this server's, for {labels}"
        return Finding("ok", where, what)
    if not _can_leave(tree):
        return Finding("ok", where, f"is not set, and needed by no route that CAPE has: {labels}")
    level: Level = "warning" if default_route(tree) in NONE else "error"
    what = f"is not set: {labels} can use no route but none"
    return Finding(level, where, what, fix)


def _check_rooter(tree: CapeTree, *, wanted: bool) -> Finding:
    """Ask CAPE's rooter.

    Args:
        tree: CAPE.
        wanted: hosts have a gateway.
    """
    path = rooter_socket(tree)
    where = f"CAPE's rooter {path}"
    needed = needs_rooter(tree)
    if not needed and not wanted:
        return Finding("ok", where, "is not needed: the hosts have no gateway, and CAPE no route")
    try:
        ask(path)
    except PermissionError:
        return Finding("warning", where, "can't be asked by this user", "run it as root")
    except RooterError as error:
        fix = "systemctl enable --now cape-rooter"
        if needed:
            return Finding("error", where, f"{error}: CAPE does not start", fix)
        what = f"{error}: no run gets a route, and CAPE cuts none off"
        return Finding("warning", where, what, fix)
    return Finding("ok", where, "answers")


def _check_forwarding(system: System) -> Finding:
    """Look whether this server, the hosts' gateway, is a router at all."""
    value = system.read(f"/proc/sys/{FORWARD.replace('.', '/')}")
    where = f"{FORWARD} = {value}"
    if value == "1":
        return Finding("ok", where, "this server forwards what the hosts send")
    fix = f"sysctl -w {FORWARD}=1, and {FORWARD} = 1 in /etc/sysctl.d/cape.conf"
    return Finding("error", where, "this server forwards nothing: no route leads out", fix)


def _check_firewall(view: dict[str, Any], here: Here, system: System) -> Finding:
    """Look for the rules that go before those of CAPE's rooter."""
    networks = view["networks"]
    portals = [one["portal"] for one in networks if here.has(one["portal"])]
    gateways = [one for network in networks for one in network["gateways"] if here.has(one)]
    if not portals and not gateways:
        return Finding("ok", "firewall", "is not needed: storage and gateway are other servers")
    where = f"firewall for {', '.join(dict.fromkeys([*portals, *gateways]))}"
    if not system.is_root:
        return Finding("warning", where, "can't be looked at by this user", "run it as root")
    try:
        missing = list(_missing_rules(system))
    except StuckError as error:
        return Finding("error", where, error.what, START_FIREWALL)
    if not missing:
        return Finding("ok", where, "is loaded")
    what = [" and ".join(missing)]
    if portals:
        what.append("in a run with route = none CAPE's rooter stops the host's disk, too")
    if gateways:
        what.append("nothing keeps a sample from this server and the private networks behind it")
    fix = START_FIREWALL if portals else f"the service's zfsiscsi.conf here, too; {START_FIREWALL}"
    return Finding("error", where, "; ".join(what), fix)


def _missing_rules(system: System) -> Iterator[str]:
    table = system.run(["nft", "list", "table", "inet", FIREWALL])
    if table is None or table.code:
        yield f"nftables has no table inet {FIREWALL}"
    rules = system.run(["iptables", "-S", "OUTPUT"])
    if rules is None or not re.search(rf"^-A OUTPUT .*\b{FIREWALL}\b", rules.out, re.MULTILINE):
        yield f"iptables has no rule of {FIREWALL} in OUTPUT"

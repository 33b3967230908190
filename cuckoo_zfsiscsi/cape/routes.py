"""CAPE's routes: which of them it can give a run, and what its default one means."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address

from cuckoo_zfsiscsi.cape.here import Here
from cuckoo_zfsiscsi.cape.tree import CapeTree
from cuckoo_zfsiscsi.cape.values import is_on, words
from cuckoo_zfsiscsi.check import Finding

NONE = ("none", "drop", "false")
"""Routes that let nothing out."""
POOL = ("nexthop", "roundrobin", "random")
"""Words for any of the gateways in [nexthop]."""

_Conf = dict[str, dict[str, str]]


@dataclass(frozen=True)
class Route:
    """A way out that CAPE has."""

    name: str
    """For a task, and for the default."""
    key: str
    """Which names the interface, for messages."""
    interface: str
    """Towards the rest; empty if CAPE needs none."""
    at_start: bool = False
    """CAPE does not start without the interface."""


def default_route(tree: CapeTree) -> str:
    """Return the route of a task that names none.

    Raises:
        ConfigError: a file of CAPE can't be read.
    """
    return tree.get("routing", "routing", "route", "none")


def routes(tree: CapeTree) -> list[Route]:
    """Return the routes that are configured, but for those that let nothing out.

    Raises:
        ConfigError: a file of CAPE can't be read.
    """
    conf = tree.read("routing")
    return [*_internet(conf), *_services(conf), *_tunnels(conf), *_proxies(conf), *_next_hops(conf)]


def needs_rooter(tree: CapeTree) -> bool:
    """Tell whether CAPE asks for its rooter at its start, and does not start without it.

    Raises:
        ConfigError: a file of CAPE can't be read.
    """
    conf = tree.read("routing")
    parts = ("vpn", "tor", "inetsim", "socks5", "nexthop")
    return default_route(tree) != "none" or any(_is_enabled(conf, part) for part in parts)


def check_routes(tree: CapeTree, here: Here) -> Iterator[Finding]:
    """Check that each route has its interface, and that the default one is one of them.

    Raises:
        ConfigError: a file of CAPE can't be read.
    """
    known = routes(tree)
    for route in known:
        if route.interface and route.interface not in here.addresses:
            what = "this server has no such interface: "
            what += "CAPE does not start" if route.at_start else f"route {route.name} is none"
            where = f"routing.conf {route.key} = {route.interface}"
            yield Finding("error", where, what, "pick one: ip -br link")
    yield from _check_inetsim(tree.read("routing"))
    yield _check_default(default_route(tree), known, here)


def _check_default(name: str, known: list[Route], here: Here) -> Finding:
    where = f"routing.conf [routing] route = {name}"
    names = [route.name for route in known]
    if name == "none":
        what = "a sample reaches no C2, unless its task asks for a route: "
        what += ", ".join(names) or "none is configured"
        fix = "" if names else "docs/routes.rst"
        return Finding("info", where, what, fix)
    if name in names:
        route = known[names.index(name)]
        way = f" by {route.interface}" if route.interface else ""
        return Finding("ok", where, f"what a sample sends goes out{way}")
    uplink = here.uplink or "IFACE"
    needs = {
        "internet": f"internet = {uplink} in [routing]: the interface that leads there",
        "inetsim": "enabled = yes, server = ADDRESS and interface = IFACE in [inetsim]",
        "tor": f"enabled = yes and interface = {uplink} in [tor]",
    }
    if name in needs:
        what = "is not configured: CAPE gives its runs no route, and does not cut them off"
        return Finding("error", where, what, needs[name])
    fix = f"route = none, or one of: {', '.join(names) or 'none is configured'}"
    return Finding("error", where, "CAPE does not start: it has no such default route", fix)


def _check_inetsim(conf: _Conf) -> Iterator[Finding]:
    if not _is_enabled(conf, "inetsim"):
        return
    server = conf["inetsim"].get("server", "")
    try:
        IPv4Address(server)
    except AddressValueError:
        where = f"routing.conf [inetsim] server = {server}".rstrip(" =")
        yield Finding("error", where, "is no IPv4 address", "that at which INetSim listens")


def _is_enabled(conf: _Conf, section: str) -> bool:
    return is_on(conf.get(section, {}).get("enabled"))


def _internet(conf: _Conf) -> Iterator[Route]:
    interface = conf.get("routing", {}).get("internet", "none")
    if interface != "none":
        yield Route("internet", "[routing] internet", interface, at_start=True)


def _services(conf: _Conf) -> Iterator[Route]:
    for name in ("inetsim", "tor"):
        if _is_enabled(conf, name):
            interface = conf[name].get("interface", "")
            yield Route(name, f"[{name}] interface", interface, at_start=True)


def _tunnels(conf: _Conf) -> Iterator[Route]:
    if _is_enabled(conf, "vpn"):
        for section in words(conf["vpn"].get("vpns")):
            keys = conf.get(section, {})
            interface = keys.get("interface", "")
            yield Route(keys.get("name", section), f"[{section}] interface", interface)


def _proxies(conf: _Conf) -> Iterator[Route]:
    if _is_enabled(conf, "socks5"):
        for section in words(conf["socks5"].get("proxies")):
            yield Route(conf.get(section, {}).get("name", section), f"[{section}]", "")


def _next_hops(conf: _Conf) -> Iterator[Route]:
    if _is_enabled(conf, "nexthop"):
        for name in words(conf["nexthop"].get("gateways")):
            interface = conf.get(name, {}).get("interface", "")
            yield Route(name, f"[{name}] interface", interface)
        yield from (Route(name, "[nexthop]", "") for name in POOL)

"""The network cards behind the portals: every byte of every disk goes through it."""

from __future__ import annotations

import json
from collections.abc import Iterator

from cuckoo_zfsiscsi.check import Finding
from cuckoo_zfsiscsi.config import Config, Network
from cuckoo_zfsiscsi.doctor.system import System

NET = "/sys/class/net"
LEAST_SPEED = 1000
"""Mbit/s."""
DEEPEST = 8
"""Layers of bridge, bond, VLAN that are looked through."""


def check_nic(config: Config, system: System) -> Iterator[Finding]:
    """Find each portal's address, and what is below it, down to the cards."""
    for network in config.networks:
        yield from _check(network, system)


def _check(network: Network, system: System) -> Iterator[Finding]:
    portal = str(network.portal_ip)
    where = network.portal_key
    name = _find(portal, system)
    if name is None:
        size = network.address.network.prefixlen
        fix = f"ip addr add {portal}/{size} dev {network.interface}"
        fix += ", and in the network's configuration"
        yield Finding("error", where, "this server has no such address", fix)
        return
    yield Finding("ok", where, f"is on {name}")
    cards = sorted(_cards(name, system))
    for card in dict.fromkeys([name, *cards]):
        yield from _link(card, system)
    yield from _mtu(name, cards, system)
    for card in cards:
        yield from _speed(card, system)


def _find(address: str, system: System) -> str | None:
    answer = system.run(["ip", "-json", "address", "show"])
    for link in json.loads(answer.out or "[]") if answer is not None else []:
        if any(entry.get("local") == address for entry in link.get("addr_info", [])):
            return str(link["ifname"])
    return None


def _cards(name: str, system: System, depth: int = 0) -> set[str]:
    """Return what an interface is made of in the end; itself if it is made of nothing.

    The kernel links each of its layers as lower_NAME.
    """
    lower = [entry.removeprefix("lower_") for entry in system.names(f"{NET}/{name}")
             if entry.startswith("lower_")]  # fmt: skip
    if not lower or depth == DEEPEST:
        return {name}
    return {card for one in lower for card in _cards(one, system, depth + 1)}


def _link(name: str, system: System) -> Iterator[Finding]:
    state = system.read(f"{NET}/{name}/operstate")
    if state in ("down", "lowerlayerdown", "dormant", "notpresent"):
        has_card = system.exists(f"{NET}/{name}/device")
        fix = f"ip link set {name} up{'; is the cable in?' if has_card else ''}"
        yield Finding("error", f"interface {name}", f"the link is {state}", fix)


def _mtu(name: str, cards: list[str], system: System) -> Iterator[Finding]:
    """Compare MTUs: a bridge whose ports differ loses long packets without a word."""
    sizes = {one: system.number(f"{NET}/{one}/mtu") for one in [name, *cards]}
    if len(set(sizes.values())) > 1:
        what = "MTUs differ: " + ", ".join(f"{one} {size}" for one, size in sizes.items())
        fix = f"ip link set IFACE mtu {min(size or 1500 for size in sizes.values())}"
        yield Finding("warning", f"interface {name}", what, fix)
    elif (sizes[name] or 0) > 1500 and name != "lo":
        what = f"MTU is {sizes[name]}: switch and hosts must have it too, firmware seldom does"
        yield Finding("info", f"interface {name}", what, f"ip link set {name} mtu 1500")


def _speed(card: str, system: System) -> Iterator[Finding]:
    where = f"interface {card}"
    if not system.exists(f"{NET}/{card}/device"):
        yield Finding("ok", where, "is virtual: it has no speed of its own")
        return
    speed = system.number(f"{NET}/{card}/speed")
    if speed is None or speed <= 0:
        yield Finding("info", where, "does not say its speed", f"ethtool {card}")
        return
    duplex = system.read(f"{NET}/{card}/duplex")
    fix = f"ethtool {card}; another cable, another port of the switch"
    if speed < LEAST_SPEED:
        what = f"runs at {speed} Mbit/s: a Windows boot reads 1 to 2 GB"
        yield Finding("warning", where, what, fix)
    elif duplex == "half":
        yield Finding("warning", where, "runs at half duplex", fix)
    else:
        yield Finding("ok", where, f"runs at {speed} Mbit/s")

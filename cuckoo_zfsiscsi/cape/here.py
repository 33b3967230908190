"""CAPE's server: its network interfaces and their addresses."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv4Network
from typing import Any

from cuckoo_zfsiscsi.doctor.system import System
from cuckoo_zfsiscsi.errors import ConfigError


@dataclass(frozen=True)
class Here:
    """The server that CAPE is on, where the command line is, too."""

    addresses: Mapping[str, tuple[IPv4Address, ...]]
    """Of each interface; () for one that has none."""
    uplink: str = ""
    """The interface of its own default route; empty if it has none."""

    def has(self, address: str) -> bool:
        """Tell whether an address is this server's."""
        return address in {str(own) for _, own in self._all()}

    def address_in(self, network: str) -> str:
        """Return this server's address in a network, or nothing."""
        return next((str(own) for _, own in self._in(network)), "")

    def interface_in(self, network: str) -> str:
        """Return this server's interface in a network, or nothing."""
        return next((name for name, _ in self._in(network)), "")

    def _in(self, network: str) -> Iterator[tuple[str, IPv4Address]]:
        return ((name, own) for name, own in self._all() if own in IPv4Network(network))

    def _all(self) -> Iterator[tuple[str, IPv4Address]]:
        return ((name, own) for name, owns in self.addresses.items() for own in owns)


def look(system: System) -> Here:
    """Ask iproute2.

    Raises:
        ConfigError: it is not there, or does not tell.
        StuckError: it does not end.
    """
    links = _ask(system, "address", "show")
    routes = _ask(system, "-4", "route", "show", "default")
    return Here(
        {
            str(link["ifname"]): tuple(
                IPv4Address(entry["local"])
                for entry in link.get("addr_info", ())
                if entry.get("family") == "inet"
            )
            for link in links
            if "ifname" in link
        },
        next((str(route["dev"]) for route in routes if "dev" in route), ""),
    )


def is_in(address: str, network: str) -> bool:
    """Tell whether a text is an address in a network."""
    try:
        return IPv4Address(address) in IPv4Network(network)
    except AddressValueError:
        return False


def _ask(system: System, *words: str) -> list[dict[str, Any]]:
    argv = ["ip", "-json", *words]
    answer = system.run(argv)
    if answer is None:
        raise ConfigError("there is no ip on this server", fix="apt install iproute2")
    try:
        found: list[dict[str, Any]] = json.loads(answer.out or "[]")
    except ValueError:
        raise ConfigError(f"{' '.join(argv)} answers no JSON", fix="update iproute2") from None
    if answer.code:
        raise ConfigError(f"{' '.join(argv)} fails: {answer.reason}", fix=" ".join(argv))
    return found

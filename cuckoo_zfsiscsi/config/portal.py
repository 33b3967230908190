"""The TCP port at which a host, and no other, logs in to its disk.

A port is what a guest can fill, and what a target's one login thread serves: each host has its own,
so that what it does there stays there, and the ruleset lets it reach no other. It is reckoned from
the host's address: it stays when other hosts come and go.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, IPv4Interface
from itertools import combinations

from cuckoo_zfsiscsi.config.mistakes import Mistake
from cuckoo_zfsiscsi.config.section import Checked

MOST = 65535
"""Highest TCP port."""
SPAN = 1 << 14
"""Addresses after which ports begin anew: a network may have more of them than there are ports."""


def port_of(ip: IPv4Address, network: IPv4Interface, first: int) -> int:
    """Return the port of a host that has none of its own in its section.

    Args:
        ip: the host's address.
        network: the server's address in its network.
        first: `portal_port` of [storage]: what is counted from.
    """
    return first + (int(ip) - int(network.network.network_address)) % SPAN


def check_ports(
    fixed: Mapping[str, Checked], networks: Mapping[str, Checked], hosts: Mapping[str, Checked]
) -> Iterator[Mistake]:
    """Check that each host has a port that it can have; wrong or missing values are left out.

    Args:
        fixed: the sections that every file has.
        networks: all of them, by name.
        hosts: those of hosts.
    """
    first = fixed["storage"].values.get("portal_port")
    boot = fixed["netboot"].values.get("boot_port")
    found: dict[str, tuple[str, int]] = {}  # by host: its network's name and its port
    for name, host in hosts.items():
        network = host.values.get("network", "")
        own = networks[network].values.get("address") if network in networks else None
        ip, port = host.values.get("ip"), host.values.get("portal_port")
        if port is None and ip is not None and own is not None and first is not None:
            port = port_of(ip, own, first) if ip in own.network else None
        if port is not None:
            found[name] = (network, port)
    free = next(port for port in range(first or MOST, 0, -1) if port not in _used(found, boot))

    def mistake(name: str, reason: str) -> Mistake:
        given = hosts[name].given.get("portal_port", "")
        return Mistake(name, "portal_port", given, reason, f"portal_port = {free}")

    for name, (_, port) in found.items():
        if port > MOST:
            yield mistake(name, f"would be {port}, and no TCP port is above {MOST}")
        if port == boot:
            yield mistake(name, f"is {port}, the boot_port of [netboot]")
    for (one, a), (two, b) in combinations(found.items(), 2):
        if a == b and hosts[one].values.get("ip") != hosts[two].values.get("ip"):
            yield mistake(two, f"is {a[1]}, that of {one}")


def _used(found: Mapping[str, tuple[str, int]], boot: int | None) -> set[int | None]:
    return {boot, *(port for _, port in found.values())}

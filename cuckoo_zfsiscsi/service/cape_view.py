"""What CAPE must know of the hosts: the service tells, so that CAPE's copy can be made of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cuckoo_zfsiscsi.config import Config, HostConfig

KEYS = (
    "label", "platform", "ip", "arch", "tags", "snapshot", "reserved", "interface",
    "resultserver_ip", "resultserver_port",
)  # fmt: skip
"""Keys of a host's section that CAPE reads."""


@dataclass(frozen=True)
class CapeNetwork:
    """A network that hosts boot from."""

    network: str
    portal: str
    ports: list[int]
    """Of the portal: that at which each host logs in, in the order of `hosts`."""
    section: str
    """Of zfsiscsi.conf, where it is configured."""
    gateways: list[str]
    """Which its hosts' systems are told; empty: they reach no other network."""
    hosts: list[str]
    """Labels."""


@dataclass(frozen=True)
class CapeView:
    """The part of zfsiscsi.conf that is CAPE's, and what its other files must suit."""

    interface: str
    networks: list[CapeNetwork]
    """Those with hosts of CAPE's."""
    start_timeout: float
    stop_timeout: float
    hosts: list[dict[str, str]]
    """One section each, in the order of `machines`; only the keys that are set."""


def cape_view(config: Config) -> CapeView:
    """Return it."""
    general = config.zfsiscsi
    # The others are rebooted by people: the machinery can neither start nor stop them
    hosts = [host for host in config.hosts if host.power_urls]
    members = {n.name: [one for one in hosts if one.network == n.name] for n in config.networks}
    return CapeView(
        interface=general.interface,
        networks=[
            CapeNetwork(
                network=str(n.address.network),
                portal=str(n.portal_ip),
                ports=[config.portal_port_of(host) for host in members[n.name]],
                section=n.section,
                gateways=_gateways(config, members[n.name]),
                hosts=[host.label for host in members[n.name]],
            )
            for n in config.networks
            if members[n.name]
        ],
        start_timeout=general.start_timeout,
        stop_timeout=general.stop_timeout,
        hosts=[_section(host) for host in hosts],
    )


def _gateways(config: Config, hosts: Sequence[HostConfig]) -> list[str]:
    """Return each once."""
    found = (config.default_route(host).gateway for host in hosts)
    return list(dict.fromkeys(str(one) for one in found if one))


def _section(host: HostConfig) -> dict[str, str]:
    values: dict[str, object] = {key: getattr(host, key) for key in KEYS}
    values["tags"] = ",".join(host.tags)
    values["reserved"] = "yes" if host.reserved else None
    return {key: str(value) for key, value in values.items() if value not in (None, "")}

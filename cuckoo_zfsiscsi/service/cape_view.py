"""What CAPE must know of the hosts: the service tells, so that CAPE's copy can be made of it."""

from __future__ import annotations

from dataclasses import dataclass

from cuckoo_zfsiscsi.config import Config, HostConfig

KEYS = (
    "label", "platform", "ip", "arch", "tags", "snapshot", "reserved", "interface",
    "resultserver_ip", "resultserver_port",
)  # fmt: skip
"""Keys of a host's section that CAPE reads."""


@dataclass(frozen=True)
class CapeNetwork:
    """A network that hosts boot from: they have no gateway to any other."""

    network: str
    portal: str
    hosts: list[str]
    """Labels."""


@dataclass(frozen=True)
class CapeView:
    """The part of zfsiscsi.conf that is CAPE's, and what its other files must suit."""

    interface: str
    networks: list[CapeNetwork]
    """Those with hosts of CAPE's."""
    portal_port: int
    start_timeout: float
    stop_timeout: float
    hosts: list[dict[str, str]]
    """One section each, in the order of `machines`; only the keys that are set."""


def cape_view(config: Config) -> CapeView:
    """Return it."""
    general = config.zfsiscsi
    # The others are rebooted by people: the machinery can neither start nor stop them
    hosts = [host for host in config.hosts if host.power_urls]
    labels = {n.name: [host.label for host in hosts if host.network == n.name]
              for n in config.networks}  # fmt: skip
    return CapeView(
        interface=general.interface,
        networks=[
            CapeNetwork(str(n.address.network), str(n.portal_ip), labels[n.name])
            for n in config.networks
            if labels[n.name]
        ],
        portal_port=config.storage.portal_port,
        start_timeout=general.start_timeout,
        stop_timeout=general.stop_timeout,
        hosts=[_section(host) for host in hosts],
    )


def _section(host: HostConfig) -> dict[str, str]:
    values: dict[str, object] = {key: getattr(host, key) for key in KEYS}
    values["tags"] = ",".join(host.tags)
    values["reserved"] = "yes" if host.reserved else None
    return {key: str(value) for key, value in values.items() if value not in (None, "")}

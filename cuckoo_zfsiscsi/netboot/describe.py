"""What every DHCP server must know of the boot networks, in values that change no meaning."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address

from cuckoo_zfsiscsi.config import Config, HostConfig, Network
from cuckoo_zfsiscsi.config.default_route import DefaultRoute
from cuckoo_zfsiscsi.netboot import plain

BOOT_FILES = {"bios": "undionly.kpxe", "uefi": "ipxe.efi"}
"""By firmware, for hosts without a boot_file of their own."""
FILES = "/files/"
"""Where the boot listener has them, for firmware that boots by HTTP."""
INSTALL = "/install/"
"""Where the boot listener has what a host installs from."""
LEASE = 12 * 3600
"""Seconds. Each host has its address for good; it only asks again."""


@dataclass(frozen=True)
class BootHost:
    """One host."""

    label: str
    mac: str
    ip: IPv4Address
    boot_file: str | None
    """Its own; None: the one for the firmware that asks."""
    default_route: DefaultRoute
    """What its running system is told by DHCP; nothing, if the agent tells it."""


@dataclass(frozen=True)
class BootNetwork:
    """Hosts, and where they find what they boot."""

    name: str
    interface: str
    server: IPv4Address
    portal: IPv4Address
    network: IPv4Network
    tftp_root: str
    script_url: str
    """iPXE fills in the MAC of netX: the network card that it boots from."""
    files_url: str
    """Of UEFI HTTP boot; a file's name goes behind it."""
    ra_prefix: IPv6Address | None
    hosts: tuple[BootHost, ...]
    allow: tuple[IPv4Network, ...]
    """Private networks that its hosts may reach, where their run's route lets them out."""

    @property
    def own_files(self) -> tuple[str, ...]:
        """Every boot_file that a host has of its own, once."""
        return tuple(dict.fromkeys(host.boot_file for host in self.hosts if host.boot_file))

    @property
    def default_routes(self) -> tuple[DefaultRoute, ...]:
        """Every one that a host has, once: of most networks a single one."""
        return tuple(dict.fromkeys(host.default_route for host in self.hosts))


def describe(config: Config) -> tuple[BootNetwork, ...]:
    """Return them, that of [netboot] first.

    Raises:
        NetbootError: a value could change a configuration's meaning.
    """
    return tuple(_describe_network(config, network) for network in config.networks)


def listener_url(config: Config, network: Network) -> str:
    """Return where the boot listener is for the hosts of a network; a path goes behind it."""
    return f"http://{network.address.ip}:{config.netboot.boot_port}"


def script_url(config: Config, network: Network) -> str:
    """Return where the hosts of a network get their boot scripts."""
    return f"{listener_url(config, network)}/boot.ipxe"


def _describe_network(config: Config, network: Network) -> BootNetwork:
    where, prefix = network.section, network.ra_prefix
    return BootNetwork(
        name=plain("a network's name", network.name, r"[a-z0-9-]{1,63}"),
        interface=plain(f"{where}.interface", network.interface, r"[A-Za-z0-9_.-]{1,15}"),
        server=network.address.ip,
        portal=network.portal_ip,
        network=network.address.network,
        tftp_root=plain("netboot.tftp_root", config.netboot.tftp_root, r"/[A-Za-z0-9_./+-]*"),
        script_url=f"{script_url(config, network)}?mac=${{netX/mac}}",
        files_url=f"{listener_url(config, network)}{FILES}",
        ra_prefix=prefix.network_address if prefix else None,
        hosts=tuple(
            _describe_host(host, config.default_route(host))
            for host in config.hosts
            if host.network == network.name
        ),
        allow=network.allow,
    )


def boot_file(host: HostConfig) -> str:
    """Return the name of the file, inside tftp_root, by which a host gets iPXE."""
    return host.boot_file or BOOT_FILES[host.firmware]


def _describe_host(host: HostConfig, default_route: DefaultRoute) -> BootHost:
    file = host.boot_file
    return BootHost(
        label=plain("a host's label", host.label, r"[a-z0-9-]{1,63}"),
        mac=plain(f"{host.label}.mac", host.mac, r"[0-9a-f:]{17}"),
        ip=IPv4Address(host.ip),
        boot_file=file and plain(f"{host.label}.boot_file", file, r"[A-Za-z0-9_./+-]+"),
        default_route=default_route if host.network_via == "dhcp" else DefaultRoute(None, ()),
    )

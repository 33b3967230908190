"""The models of zfsiscsi.conf: one per section. Descriptions and examples make the manual."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from cuckoo_zfsiscsi.config import fields as f
from cuckoo_zfsiscsi.config.base import Section
from cuckoo_zfsiscsi.config.default_route import (
    Allow,
    DefaultRoute,
    Dns,
    Gateway,
    allow_field,
    choose,
    dns_field,
    gateway_field,
)
from cuckoo_zfsiscsi.config.host import HostConfig
from cuckoo_zfsiscsi.config.mistakes import nearest
from cuckoo_zfsiscsi.config.networks import MAIN, Network
from cuckoo_zfsiscsi.config.portal import port_of
from cuckoo_zfsiscsi.config.secrets import read_secret_file
from cuckoo_zfsiscsi.errors import UnknownHostError


class General(Section):
    """[zfsiscsi]: what CAPE reads, and how the service is reached."""

    capes_own = frozenset({"dsn", "total_machines_limit", "dynamic_machines_limit"})

    machines: f.Labels = Field(
        description="The hosts, with commas. Each has its own section.",
        examples=["pc1,pc2"],
    )
    interface: f.Interface = Field(
        description="Network interface on which CAPE records the hosts' traffic.",
        examples=["br-lab"],
    )
    service: f.Service = Field(
        "http://127.0.0.1:8470",
        description="Where the service listens and CAPE finds it: http://ADDRESS:PORT, "
        "https://ADDRESS:PORT, or unix:///PATH when both are on one machine.",
        examples=["http://127.0.0.1:8470"],
    )
    token_file: f.AbsolutePath | None = Field(
        None,
        description="File with the token that opens the service, mode 600, owned by the user CAPE "
        "runs as. Must be set unless service is a unix socket.",
        examples=["/etc/zfsiscsi/token"],
    )
    certificate: f.AbsolutePath | None = Field(
        None,
        description="The service's certificate in PEM, those between it and the authority's "
        "behind it. Needed on the storage server when service is https://, and only then.",
        examples=["/etc/zfsiscsi/certificate.pem"],
    )
    private_key: f.AbsolutePath | None = Field(
        None,
        description="Its private key in PEM, without a passphrase, mode 600, owned by root.",
        examples=["/etc/zfsiscsi/private-key.pem"],
    )
    ca_file: f.AbsolutePath | None = Field(
        None,
        description="Certificate of the authority that signed it, in PEM, for those who ask: CAPE "
        "and the command line. Not set, the public authorities count.",
        examples=["/etc/zfsiscsi/ca.pem"],
    )
    run_dir: f.AbsolutePath = Field(
        Path("/run/zfsiscsi"),
        description="Folder of what lives as long as the service: pid files, sockets, generated "
        "configuration of DHCP servers.",
        examples=["/run/zfsiscsi"],
    )
    start_timeout: f.Seconds = Field(
        300.0,
        description="Seconds that CAPE waits for a host to become ready, reset included.",
        examples=["300"],
    )
    stop_timeout: f.Seconds = Field(
        60.0, description="Seconds that CAPE waits for a host's power to be off.", examples=["60"]
    )

    @property
    def is_beside_cape(self) -> bool:
        """Whether CAPE is on this server: it could not reach the service from another one."""
        url = urlsplit(self.service)
        if url.scheme == "unix" or url.hostname == "localhost":
            return True
        try:
            return ip_address(url.hostname or "").is_loopback
        except ValueError:
            return False

    def read_token(self) -> SecretStr | None:
        """Read the token; None if there is no token_file.

        Raises:
            ConfigError: the file is missing, open to others or not one line.
        """
        if self.token_file is None:
            return None
        return read_secret_file(self.token_file, where="[zfsiscsi] token_file")


class Storage(Section):
    """[storage]: images, disks and how they are exported."""

    store: Literal["file", "zfs"] = Field(
        "file",
        description="How images and disks are kept: file, anywhere; zfs, what a lab should run.",
        examples=["zfs"],
    )
    path: f.AbsolutePath = Field(
        Path("/var/lib/zfsiscsi"),
        description="Folder of the images and disks with store = file, best on a file system with "
        "reflinks (XFS, btrfs).",
        examples=["/var/lib/zfsiscsi"],
    )
    pool: f.Dataset | None = Field(
        None,
        description="ZFS pool, or dataset in one, for images and disks with store = zfs. "
        "Made ready once by zfsiscsi storage init POOL.",
        examples=["tank"],
    )
    pool_free: Annotated[int, Field(ge=1, le=90)] = Field(
        10,
        description="Percent of the pool that stays free: evidence is dropped for it, oldest "
        "first, and if that is not enough no new disk is made.",
        examples=["10"],
    )
    evidence_days: Annotated[int, Field(ge=1, le=36500)] = Field(
        30, description="Days after which evidence is dropped.", examples=["30"]
    )
    evidence_gib: Annotated[int, Field(ge=1)] = Field(
        100,
        description="GiB that the evidence of all hosts may take together; the oldest is dropped.",
        examples=["100"],
    )
    target: Literal["tgt", "lio"] = Field(
        "tgt",
        description="The iSCSI target software: tgt goes with store = file, lio (the kernel's) "
        "with store = zfs.",
        examples=["lio"],
    )
    portal: f.Address = Field(
        description="IPv4 address at which the hosts reach the iSCSI target: on their own network, "
        "as iPXE hears of no gateway.",
        examples=["10.99.0.1"],
    )
    portal_port: f.Port = Field(
        3260,
        description="TCP port of the iSCSI target, from which those of the hosts are counted: a "
        "host's is this plus the number that its address has in its network (the last 14 bits of "
        "it). With 3260, 10.99.0.11 in 10.99.0.0/24 logs in at port 3271.",
        examples=["3260"],
    )
    iqn: f.Iqn = Field(
        description="iSCSI name that all others begin with: iqn.YEAR-MONTH.REVERSED-DOMAIN.",
        examples=["iqn.2026-01.org.example"],
    )


class Netboot(Section):
    """[netboot]: the network that the hosts boot from."""

    dhcp: Literal["dnsmasq", "isc", "kea", "external", "paper"] = Field(
        "dnsmasq",
        description="The DHCP server that the service runs: dnsmasq, isc (dhcpd) or kea, with "
        "TFTP by dnsmasq; external, the site's own, which needs the lines of zfsiscsi netboot "
        "render; or paper, the dhcpd and tftpd-hpa of docs/paper-mode.rst. See docs/netboot.rst.",
        examples=["dnsmasq"],
    )
    interface: f.Interface = Field(
        description="The server's network interface towards the hosts.", examples=["br-lab"]
    )
    address: f.OwnAddress = Field(
        description="The server's own address on that interface, with the network's size.",
        examples=["10.99.0.1/24"],
    )
    boot_port: f.Port = Field(
        8471, description="TCP port from which the hosts load their boot scripts.",
        examples=["8471"],
    )  # fmt: skip
    ra_prefix: f.UlaPrefix = Field(
        None,
        description="Private IPv6 /64 to advertise, or off. Without it iPXE waits 13 s at every "
        "boot. The service gives the interface an address in it.",
        examples=["fd99:0:0:1::/64"],
    )
    gateway: Gateway | None = gateway_field(
        "If it is not set: address, when CAPE is on this server (service is a unix socket or on "
        "127.0.0.1); else none."
    )
    dns: Dns | None = dns_field("If it is not set: the gateway.")
    allow: Allow = allow_field()
    tftp_root: f.PlainPath = Field(
        Path("/usr/lib/ipxe"),
        description="Folder of the iPXE boot files.",
        examples=["/usr/lib/ipxe"],
    )
    wimboot: f.AbsolutePath | None = Field(
        None,
        description="The file wimboot of https://ipxe.org/wimboot, which starts Windows' "
        "installer: zfsiscsi image install needs it, and nothing else does.",
        examples=["/usr/local/lib/wimboot"],
    )


class Config(BaseModel):
    """The whole file, proven to fit together."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path
    zfsiscsi: General
    storage: Storage
    netboot: Netboot
    hosts: tuple[HostConfig, ...]
    more_networks: tuple[Network, ...] = ()
    """Of the sections [network:NAME]."""

    @property
    def networks(self) -> tuple[Network, ...]:
        """Every network that hosts boot from, that of [netboot] first."""
        netboot = self.netboot
        main = Network.model_construct(  # proven already
            name=MAIN,
            interface=netboot.interface,
            address=netboot.address,
            portal=self.storage.portal,
            ra_prefix=netboot.ra_prefix,
            gateway=netboot.gateway,
            dns=netboot.dns,
            allow=netboot.allow,
        )
        return (main, *self.more_networks)

    def network_of(self, host: HostConfig) -> Network:
        """Return the one that a host of this configuration boots from."""
        return next(network for network in self.networks if network.name == host.network)

    def portal_port_of(self, host: HostConfig) -> int:
        """Return the TCP port at which a host of this configuration, and no other, logs in."""
        first = self.storage.portal_port
        return host.portal_port or port_of(host.ip, self.network_of(host).address, first)

    def default_route(self, host: HostConfig) -> DefaultRoute:
        """Return what a host's running system is told of the way out of its network."""
        network = self.network_of(host)
        here = network.address.ip if self.zfsiscsi.is_beside_cape else None
        return choose((host.gateway, host.dns), (network.gateway, network.dns), here)

    def host(self, label: str) -> HostConfig:
        """Return one host.

        Raises:
            UnknownHostError: no host has this label.
        """
        for host in self.hosts:
            if host.label == label:
                return host
        labels = [host.label for host in self.hosts]
        best = nearest(label, labels)
        fix = f"did you mean {best}?" if best else f"use one of: {', '.join(labels)}"
        raise UnknownHostError(f"there is no host {label}", fix=fix)

"""The networks that hosts boot from: that of [netboot], and one for each [network:NAME]."""

from __future__ import annotations

from ipaddress import IPv4Address

from pydantic import Field

from cuckoo_zfsiscsi.config import fields as f
from cuckoo_zfsiscsi.config.base import Section
from cuckoo_zfsiscsi.config.default_route import (
    Allow,
    Dns,
    Gateway,
    allow_field,
    dns_field,
    gateway_field,
)

MAIN = "netboot"
"""Name of the network that every file has."""
PREFIX = "network:"
"""What the sections of the others begin with."""


class Network(Section):
    """[network:NAME]: another network that hosts boot from, beside that of [netboot]."""

    not_keys = frozenset({"name"})

    name: str
    interface: f.Interface = Field(
        description="The server's network interface towards these hosts: a card, a VLAN or a "
        "bridge of its own.",
        examples=["vlan20"],
    )
    address: f.OwnAddress = Field(
        description="The server's own address on that interface, with the network's size. The "
        "hosts get DHCP, TFTP and their boot scripts from it.",
        examples=["10.99.20.1/24"],
    )
    portal: f.Address | None = Field(
        None,
        description="IPv4 address at which these hosts reach the iSCSI target, if another than "
        "that.",
        examples=["10.99.20.2"],
    )
    ra_prefix: f.UlaPrefix = Field(
        None,
        description="Private IPv6 /64 to advertise there, or off; as in [netboot].",
        examples=["fd99:0:0:20::/64"],
    )
    gateway: Gateway | None = gateway_field("If it is not set, as in [netboot].")
    dns: Dns | None = dns_field("If it is not set: the gateway.")
    allow: Allow = allow_field()

    @property
    def section(self) -> str:
        """Where it is configured."""
        return MAIN if self.name == MAIN else PREFIX + self.name

    @property
    def portal_ip(self) -> IPv4Address:
        """Where its hosts find their disks."""
        return self.portal or self.address.ip

    @property
    def portal_key(self) -> str:
        """Where that is configured, for messages."""
        if self.name == MAIN:
            return f"[storage] portal = {self.portal_ip}"
        key = "portal" if self.portal else "address"
        return f"[{self.section}] {key} = {self.portal_ip}"

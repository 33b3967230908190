"""Looks for a second server with the same address: a clone of this one that was left on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from ipaddress import IPv4Address

from cuckoo_zfsiscsi.check import Finding
from cuckoo_zfsiscsi.config import Config
from cuckoo_zfsiscsi.packets import Card
from cuckoo_zfsiscsi.power.signs import arp

NOBODY = IPv4Address("0.0.0.0")  # noqa: S104 - asks for itself, as RFC 5227, 2.1.1 has it
SECONDS = 2.0
"""In which it is asked several times: the first question may be lost."""
EVERYBODY = "ff:ff:ff:ff:ff:ff"


def check_twins(config: Config) -> Iterator[Finding]:
    """Ask on each network who else has the server's addresses: hosts would find either server.

    A kernel does not answer its own question. Without an interface, or not as root, nothing is
    found: other checks say so.
    """
    for network in config.networks:
        for address in dict.fromkeys((network.address.ip, network.portal_ip)):
            with contextlib.suppress(OSError):
                if arp(Card(network.interface, EVERYBODY), NOBODY, address, SECONDS):
                    where = f"[{network.section}] interface = {network.interface}"
                    what = f"another machine has {address} as well: a clone of this server?"
                    fix = "switch it off, or give it other addresses, labels and another iqn"
                    yield Finding("error", where, what, fix)

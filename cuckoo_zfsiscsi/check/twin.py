"""Looks for a second server with the same address: a clone of this one that was left on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from ipaddress import IPv4Address

from cuckoo_zfsiscsi.check import Finding
from cuckoo_zfsiscsi.config import Config
from cuckoo_zfsiscsi.power.signs import answers_arp

NOBODY = IPv4Address("0.0.0.0")  # noqa: S104 - asks for itself, as RFC 5227, 2.1.1 has it
SECONDS = 1.0
ATTEMPTS = 2
"""The first question may be lost."""


def check_twins(config: Config) -> Iterator[Finding]:
    """Ask on each network who else has the server's addresses: hosts would find either server.

    A kernel does not answer its own question. Without an interface, or not as root, nothing is
    found: other checks say so.
    """
    for network in config.networks:
        for address in dict.fromkeys((network.address.ip, network.portal_ip)):
            with contextlib.suppress(OSError):
                asked = (
                    answers_arp(network.interface, NOBODY, address, SECONDS)
                    for _ in range(ATTEMPTS)
                )
                if any(asked):
                    where = f"[{network.section}] interface = {network.interface}"
                    what = f"another machine has {address} as well: a clone of this server?"
                    fix = "switch it off, or give it other addresses, labels and another iqn"
                    yield Finding("error", where, what, fix)

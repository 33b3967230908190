"""An nftables ruleset (nft(8)) for the storage server: guests reach what they boot from, no more.

Guests on one segment reach each other past this server: that is the switch's to prevent.
"""

from __future__ import annotations

import os

from cuckoo_zfsiscsi.config import Config
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.netboot import render_template
from cuckoo_zfsiscsi.netboot.describe import describe
from cuckoo_zfsiscsi.netboot.site import Kind, Rendered, check_text

RESULT_PORT = 2042
"""Of CAPE's result server, unless its host's section says otherwise (cuckoo.conf)."""
NFTABLES = Kind(
    None, lambda _nets: "", test=("nft", "--check", "--file"), install="apt install nftables"
)


def render(config: Config) -> str:
    """Return the ruleset.

    Raises:
        NetbootError: a value could change its meaning.
    """
    nets = describe(config)
    results = {}
    for host in config.hosts:
        address = host.resultserver_ip or config.network_of(host).address.ip
        results[host.label] = f"{address} . {host.resultserver_port or RESULT_PORT}"
    return render_template(
        "firewall.nft.j2",
        nets=nets,
        interfaces=", ".join(f'"{net.interface}"' for net in nets),
        boot_port=config.netboot.boot_port,
        portal_port=config.storage.portal_port,
        results=results,
        result_port=RESULT_PORT,
    )


def render_checked(config: Config, deadline: Deadline) -> Rendered:
    """Return the ruleset as nft(8) has found it right; it can say so to root alone.

    Raises:
        NetbootError: as render(), or nft refuses it.
    """
    text = render(config)
    if os.geteuid():
        return Rendered("nftables", text, "nft checks for root alone; sudo")
    return Rendered("nftables", text, check_text(NFTABLES, text, config, deadline))

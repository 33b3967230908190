"""Chooses the DHCP server that the configuration names. A new driver = one line here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cuckoo_zfsiscsi.config import Config
from cuckoo_zfsiscsi.netboot import OnEvent, external, isc, kea, paper
from cuckoo_zfsiscsi.netboot.dnsmasq import Dnsmasq
from cuckoo_zfsiscsi.netboot.paper_door import Ask
from cuckoo_zfsiscsi.netboot.server import Netboot

PAPER = "paper"
"""Asks for each boot script itself, so it is made otherwise than the others."""
SERVERS: dict[str, Callable[[Config, OnEvent], Netboot]] = {
    "dnsmasq": Dnsmasq,
    "isc": isc.make,
    "kea": kea.make,
    "external": external.make,
}
"""By the value of `dhcp` in [netboot]."""


def make_netboot(
    config: Config, on_event: OnEvent, ask: Ask = lambda _mac, _address: None
) -> Netboot:
    """Return what gives the hosts addresses and boot files, not open yet.

    Args:
        config: of the service.
        on_event: told (label, "dhcp" or "tftp", monotonic seconds), in a thread of its own.
        ask: for a host's boot script, by who answers DHCP only when there is one.
    """
    if config.netboot.dhcp == PAPER:
        return paper.make(config, on_event, ask)
    return SERVERS[config.netboot.dhcp](config, on_event)


def tftp_folder(config: Config) -> Path:
    """Return where the boot files lie that hosts load by TFTP."""
    netboot = config.netboot
    return paper.tftp_root(config) if netboot.dhcp == PAPER else netboot.tftp_root

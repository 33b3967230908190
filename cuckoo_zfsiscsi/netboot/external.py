"""Beside a DHCP server of the site: TFTP and router advertisements alone."""

from __future__ import annotations

from cuckoo_zfsiscsi.config import Config
from cuckoo_zfsiscsi.netboot import OnEvent
from cuckoo_zfsiscsi.netboot.dnsmasq import Dnsmasq


def make(config: Config, on_event: OnEvent) -> Dnsmasq:
    """Return what is left to run. That a host got its address is not seen then."""
    return Dnsmasq(config, on_event, dhcp=False)

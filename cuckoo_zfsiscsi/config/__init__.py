"""zfsiscsi.conf, read once into frozen models; every mistake in it is reported at once."""

from __future__ import annotations

from cuckoo_zfsiscsi.config.host import HostConfig
from cuckoo_zfsiscsi.config.load import load
from cuckoo_zfsiscsi.config.mistakes import InvalidConfigError, Mistake
from cuckoo_zfsiscsi.config.model import Config, General, Netboot, Storage
from cuckoo_zfsiscsi.config.networks import Network
from cuckoo_zfsiscsi.config.powerurl import PowerUrl, power_schemes
from cuckoo_zfsiscsi.config.ways import Way, Ways, parse_ways, write_way, write_ways

__all__ = [
    "Config",
    "General",
    "HostConfig",
    "InvalidConfigError",
    "Mistake",
    "Netboot",
    "Network",
    "PowerUrl",
    "Storage",
    "Way",
    "Ways",
    "load",
    "parse_ways",
    "power_schemes",
    "write_way",
    "write_ways",
]

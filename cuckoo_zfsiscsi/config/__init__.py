"""zfsiscsi.conf, read once into frozen models; every mistake in it is reported at once."""

from __future__ import annotations

from cuckoo_zfsiscsi.config.host import HostConfig
from cuckoo_zfsiscsi.config.load import load
from cuckoo_zfsiscsi.config.mistakes import InvalidConfigError, Mistake
from cuckoo_zfsiscsi.config.model import Config, General, Netboot, Storage
from cuckoo_zfsiscsi.config.powerurl import PowerUrl, power_schemes

__all__ = [
    "Config",
    "General",
    "HostConfig",
    "InvalidConfigError",
    "Mistake",
    "Netboot",
    "PowerUrl",
    "Storage",
    "load",
    "power_schemes",
]

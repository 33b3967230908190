"""From a power URL to the power of a host."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

from cuckoo_zfsiscsi.config import power_schemes
from cuckoo_zfsiscsi.errors import ConfigError
from cuckoo_zfsiscsi.power.limit import limiter_for
from cuckoo_zfsiscsi.power.proved import ProvedPower

if TYPE_CHECKING:
    from cuckoo_zfsiscsi.config import HostConfig


def make_power(host: HostConfig) -> ProvedPower:
    """Return the power of a host; its password is read now, nothing is sent yet.

    Raises:
        ConfigError: no such driver, or the URL or the password does not suit it.
    """
    driver = find_driver(host.power.scheme).connect(host.power, host.read_power_password())
    return ProvedPower(driver, limiter_for(driver.peer), interval=host.power_interval)


def find_driver(scheme: str) -> ModuleType:
    """Return the module of a URL scheme; what follows a "+" is the driver's own affair.

    Raises:
        ConfigError: there is none.
    """
    name = scheme.partition("+")[0]
    if name not in power_schemes():
        raise ConfigError(
            f"power: no driver for {scheme}://", fix=f"use one of: {', '.join(power_schemes())}"
        )
    return importlib.import_module(f"cuckoo_zfsiscsi.power.{name}")

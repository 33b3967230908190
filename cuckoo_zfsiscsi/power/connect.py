"""From the power URLs of a host to its power."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING

from cuckoo_zfsiscsi.config import power_schemes
from cuckoo_zfsiscsi.errors import ConfigError
from cuckoo_zfsiscsi.power import Aimed, Driver
from cuckoo_zfsiscsi.power.limit import limiter_for
from cuckoo_zfsiscsi.power.proved import ProvedPower
from cuckoo_zfsiscsi.power.refusal import AimedOnceRefused, OnceRefused
from cuckoo_zfsiscsi.power.together import Together
from cuckoo_zfsiscsi.power.unswitched import Unswitched
from cuckoo_zfsiscsi.power.ways import Ways
from cuckoo_zfsiscsi.power.witness import Accuse, HostWitness, Nobody, Witness

if TYPE_CHECKING:
    from pydantic import SecretStr

    from cuckoo_zfsiscsi import config


def make_witness(
    conf: config.Config,
    host: config.HostConfig,
    accuse: Accuse = lambda _mac, _what: None,
    is_off: Callable[[str], bool] = lambda _label: False,
) -> HostWitness | Nobody:
    """Return who sees a host from outside; nothing is sent yet. Arguments: as HostWitness."""
    return HostWitness(conf, host, accuse, is_off) if host.power_signs else Nobody()


def make_power(host: config.HostConfig, witness: Witness | None = None) -> Ways | Unswitched:
    """Return the power of a host; its passwords are read now, nothing is sent yet.

    Args:
        host: its section.
        witness: sees it; None: the power devices' word alone counts.

    Raises:
        ConfigError: no such driver, or a URL or a password does not suit it.
    """
    if not host.power_urls:  # as a host that is reset at each boot may have it
        return Unswitched(host.label)
    witness = witness or Nobody()
    made: dict[config.Way, ProvedPower] = {}
    lists = (host.ways_on, host.ways_off)
    for ways in lists:
        for way in ways:
            if way in made:
                continue
            drivers = [make_driver(host, url) for url in way]
            # Those of several devices have their turns inside.
            one = len(drivers) == 1
            driver = drivers[0] if one else Together(drivers, host.power_interval)
            made[way] = ProvedPower(
                driver,
                limiter_for(driver.peer),
                interval=host.power_interval if one else 0.0,
                witness=witness,
                silence=host.power_silence,
                quiet=host.power_quiet,
                hurried=way is not ways[-1],
            )
    on, off = ([made[way] for way in ways] for ways in lists)
    return Ways(host.label, on, off, witness)


def make_driver(host: config.HostConfig, url: config.PowerUrl) -> Driver:
    """Return the driver of one URL, completed with what the host's section says already.

    Raises:
        ConfigError: as make_power().
    """
    module = find_driver(url.scheme)
    known: dict[str, str] = getattr(module, "FROM_HOST", {})
    options = {name: str(getattr(host, key)) for name, key in known.items()}
    complete = dataclasses.replace(url, options={**options, **url.options})

    def make(secret: SecretStr | None) -> Driver:
        driver: Driver = module.connect(complete, secret)
        return driver

    def read() -> SecretStr | None:
        return host.read_power_password(url=url)

    secret = read()
    driver = make(secret)
    if secret is None:
        return driver
    kind = AimedOnceRefused if isinstance(driver, Aimed) else OnceRefused
    return kind(complete.user or "", read, make)


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

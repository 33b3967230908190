from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cuckoo_zfsiscsi.config import HostConfig, PowerUrl, parse_ways, power_schemes
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import ConfigError
from cuckoo_zfsiscsi.power import PowerState
from cuckoo_zfsiscsi.power import ipmi as ipmi_module
from cuckoo_zfsiscsi.power.connect import find_driver, make_power
from tests.power.bmc import Bmc
from tests.power.config import host_config
from tests.waiting import HANG


def of(bmc: Bmc, folder: Path, password: str) -> HostConfig:
    secret = folder / "password"
    secret.write_text(password + "\n")
    secret.chmod(0o600)
    return host_config(bmc.url(timeout="60"), secret)


def test_power_of_a_configured_host(bmc: Bmc, tmp_path: Path) -> None:
    power = make_power(of(bmc, tmp_path, bmc.password))
    power.on(deadline=Deadline(HANG))
    assert bmc.power == "1"
    assert power.status(deadline=Deadline(HANG)) is PowerState.ON


def test_every_scheme_has_a_driver() -> None:
    assert "ipmi" in power_schemes()
    for scheme in power_schemes():
        assert callable(find_driver(scheme).connect)


def test_what_follows_a_plus_is_the_drivers_own() -> None:
    assert find_driver("ipmi+supermicro") is ipmi_module


@pytest.mark.parametrize("scheme", ["telepathy", "proved", "limit", "", "os", "../ipmi"])
def test_no_driver(scheme: str) -> None:
    with pytest.raises(ConfigError, match=f"no driver for {scheme}://") as unknown:
        find_driver(scheme)
    assert "ipmi" in unknown.value.fix


def test_scheme_is_judged_before_the_password_is_read() -> None:
    ways = ((PowerUrl("telepathy", "h"),),)
    host: Any = SimpleNamespace(power_urls=ways[0], ways_on=ways, ways_off=ways)
    with pytest.raises(ConfigError, match="telepathy"):
        make_power(host)


def test_devices_that_are_used_together(bmc: Bmc, tmp_path: Path) -> None:
    relay = tmp_path / "relay"
    relay.write_text(
        f"#!/bin/sh\ncd {tmp_path}\ncase $1 in status) cat state;; *) echo $1 >state\nesac\n"
    )
    relay.chmod(0o755)
    (tmp_path / "state").write_text("on\n")
    host = of(bmc, tmp_path, bmc.password)
    both = parse_ways(f"{bmc.url(timeout='60')} and command://{relay}")
    power = make_power(host.model_copy(update={"power": both}))
    assert power.status(deadline=Deadline(HANG)) is PowerState.ON
    proof = power.off(deadline=Deadline(HANG))
    assert proof.peer == f"ipmi://127.0.0.1:{bmc.port} and command://{relay}"
    assert (bmc.power, (tmp_path / "state").read_text()) == ("0", "off\n")

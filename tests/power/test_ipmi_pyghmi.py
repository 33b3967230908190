"""The driver against a second, independent BMC: pyghmi's."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from cuckoo_zfsiscsi.config import PowerUrl
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import PowerError, TransientPowerError
from cuckoo_zfsiscsi.power import Aimed, PowerState
from cuckoo_zfsiscsi.power.ipmi import Ipmi, connect
from tests.power.bmc import Bmc, free_port
from tests.waiting import HANG, wait

SERVER = Path(__file__).with_name("pyghmi_bmc.py")
PASSWORD = "pyghmi-pass"


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    file = tmp_path / "machine"
    file.write_text("off")
    return file


@pytest.fixture
def port(machine: Path) -> Iterator[int]:
    number = free_port()
    argv = [sys.executable, str(SERVER), str(number), str(machine)]
    environ = {**os.environ, "BMC_PASSWORD": PASSWORD}
    with subprocess.Popen(argv, env=environ) as server:
        try:
            udp, bound = Path("/proc/net/udp"), f"0100007F:{number:04X}"
            wait(lambda: bound in udp.read_text(), what="it does not listen")
            yield number
        finally:
            server.kill()


def driver(port: int, password: str = PASSWORD, **more: str) -> Ipmi:
    options = {"cipher": "3", "timeout": "60", "tries": "1", **more}
    return connect(PowerUrl("ipmi", "127.0.0.1", "admin", port, options), SecretStr(password))


def test_switches_and_tells(port: int, machine: Path) -> None:
    one = driver(port)
    assert one.query(deadline=Deadline(HANG)) is PowerState.OFF
    one.request(PowerState.ON, deadline=Deadline(HANG))
    assert machine.read_text() == "on"
    assert one.query(deadline=Deadline(HANG)) is PowerState.ON
    one.request(PowerState.OFF, deadline=Deadline(HANG))
    assert machine.read_text() == "off"


def test_next_boot_from_the_network(port: int, machine: Path, bmc: Bmc) -> None:
    one = driver(port, boot="network")
    assert isinstance(one, Aimed)
    one.aim(deadline=Deadline(HANG))
    assert machine.with_suffix(".boot").read_text() == "network"
    assert not isinstance(driver(port), Aimed)
    simulated = bmc.driver(boot="network-uefi", tries="2")
    assert isinstance(simulated, Aimed)
    simulated.aim(deadline=Deadline(HANG))
    assert bmc.asked("set boot pxe") == 1


def test_wrong_password(port: int) -> None:
    with pytest.raises(PowerError, match=r"refuses the user or the password|gives no session"):
        driver(port, "wrong").query(deadline=Deadline(HANG))


def test_gone(port: int, machine: Path) -> None:
    machine.unlink()
    with pytest.raises((PowerError, TransientPowerError)):
        driver(port, timeout="1").query(deadline=Deadline(HANG))

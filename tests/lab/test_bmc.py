from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.errors import DeadlineExceededError, LabError
from cuckoo_zfsiscsi.lab import bmc as bmc_module
from cuckoo_zfsiscsi.lab import qemu
from cuckoo_zfsiscsi.lab.bmc import Bmc
from cuckoo_zfsiscsi.lab.machine import Machine
from cuckoo_zfsiscsi.lab.network import Network
from tests.processes import processes


def pid_of(machine: Machine) -> int | None:
    return machine.pid


@pytest.fixture
def machine(network: Network, tmp_path: Path) -> Iterator[Machine]:
    made = qemu.create(tmp_path / "the host", 1, "bios", network, extra=["-S"])
    yield made
    made.off()


@pytest.fixture
def bmc(machine: Machine, network: Network) -> Iterator[Bmc]:
    with Bmc(machine, 1, network, password="p.4_s+-S") as made:
        yield made


def test_it_switches_the_host(bmc: Bmc, machine: Machine) -> None:
    assert "is off" in bmc.ipmitool("chassis", "power", "status")
    bmc.ipmitool("chassis", "power", "on")
    assert pid_of(machine)
    bmc.ipmitool("chassis", "power", "on")
    assert machine.boots == 1
    assert "is on" in bmc.ipmitool("chassis", "power", "status")
    bmc.ipmitool("chassis", "power", "off")
    assert pid_of(machine) is None
    assert "is off" in bmc.ipmitool("chassis", "power", "status")


def test_the_host_outlives_its_bmc(bmc: Bmc, machine: Machine) -> None:
    bmc.ipmitool("chassis", "power", "on")
    pid = pid_of(machine)
    bmc.stop()
    assert pid_of(machine) == pid
    bmc.start()
    assert pid_of(machine) == pid
    assert "is on" in bmc.ipmitool("chassis", "power", "status")


def test_a_bmc_that_lies(bmc: Bmc, machine: Machine) -> None:
    machine.on()
    (machine.state / "fault").write_text("stuck-on")
    assert "Down/Off" in bmc.ipmitool("chassis", "power", "off")
    assert "is on" in bmc.ipmitool("chassis", "power", "status")


def test_a_slow_bmc(bmc: Bmc, machine: Machine) -> None:
    (machine.state / "fault").write_text("slow 0.5")
    began = time.monotonic()
    bmc.ipmitool("chassis", "power", "status")
    assert time.monotonic() - began >= 0.5


def test_the_password_is_kept(bmc: Bmc, machine: Machine, network: Network) -> None:
    assert (bmc.folder / "lan.conf").stat().st_mode & 0o077 == 0
    assert bmc.folder.stat().st_mode & 0o077 == 0
    assert not [line for line in processes().values() if b"p.4_s+-S" in line]
    wrong = Bmc(machine, 1, network, password="wrong")
    with pytest.raises(LabError, match="ipmitool") as error:
        wrong.ipmitool("-N", "1", "-R", "1", "chassis", "power", "status")
    assert "wrong" not in str(error.value)


def test_where_it_is(bmc: Bmc) -> None:
    assert str(bmc.address) == "10.98.0.11"
    assert bmc.url == "ipmi://admin@10.98.0.11:623?cipher=3"


@pytest.mark.parametrize("password", ['with"quote', "", "longer-than-sixteen"])
def test_passwords_that_it_can_not_have(machine: Machine, network: Network, password: str) -> None:
    with pytest.raises(LabError, match="1 to 16 letters") as error:
        Bmc(machine, 1, network, password=password)
    assert not password or password not in str(error.value)


def test_it_does_not_come_up(
    machine: Machine, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bmc_module, "LAN", 'name "deaf"\n')
    monkeypatch.setattr(bmc_module, "HANG", 0.5)
    with pytest.raises((LabError, DeadlineExceededError)):
        Bmc(machine, 1, network, password="x").start()
    assert network.pids() == []

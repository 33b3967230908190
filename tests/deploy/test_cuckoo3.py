"""Cuckoo3's machinery against a double of Cuckoo3, and the control API as tests/cape plays it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cape.service import TOKEN, Service, answer, refuse, serve
from tests.deploy import cuckoo3
from tests.deploy.cuckoo3 import Machine

VIEW = {
    "networks": [
        {"portal": "10.99.0.1", "ports": [3271, 3272]},
        {"portal": "10.99.20.1", "ports": [3271]},
    ]
}
QUARANTINED = {"state": "quarantined", "reason": "pc1 did not become ready: no dhcp"}


@pytest.fixture
def service() -> Iterator[Service]:
    with serve() as one:
        one.acts["/v1/cape"] = answer(200, {**VIEW, "hosts": []})
        one.acts["start"] = answer(202, one.hosts["pc1"])
        yield one


@dataclass
class Clock:
    """Stands still."""

    now: float = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def module(clock: Clock) -> Iterator[Any]:
    with cuckoo3.imported() as module:
        module.time = clock
        yield module


@pytest.fixture
def make(module: Any, service: Service, tmp_path: Path) -> Any:
    """Make the machinery as Cuckoo3 does, of these labels."""
    (tmp_path / "token").write_text(TOKEN)

    def make(*labels: str) -> Any:
        machines = {label: {"label": label, "snapshot": None} for label in labels}
        cfg = {"service": service.url, "token_file": str(tmp_path / "token"), "ca_file": None}
        module.ZfsIscsi.verify_dependencies()
        made = module.ZfsIscsi({**cfg, "interface": "br-lab", "machines": machines})
        made.init()
        made.load_machines()
        return made

    return make


@pytest.fixture
def machinery(make: Any) -> Any:
    return make("pc1")


@pytest.fixture
def machine() -> Machine:
    return Machine("pc1", "pc1", None, locked_by="20261201-ABCDEF_1")


def tell(service: Service, **changes: object) -> None:
    """Have the service say this of the host."""
    service.hosts["pc1"].update({"run": False, "start_error": "", "reason": "", **changes})


def test_it_is_what_cuckoo3_looks_for(module: Any) -> None:
    """It takes classes that are defined in this file, by their name, and its configuration's."""
    (found,) = cuckoo3.Machinery.__subclasses__()[-1:]
    assert found is module.ZfsIscsi
    assert found.__module__ == "cuckoo.machineries.modules.zfsiscsi"
    assert found.name == "zfsiscsi"
    assert set(module.typeloaders) == {"kvm.yaml", "zfsiscsi.yaml"}


def test_without_the_package_only_this_machinery_fails() -> None:
    with (
        cuckoo3.imported(**{"cuckoo_zfsiscsi.cape.client": None}) as module,
        pytest.raises(cuckoo3.MachineryDependencyError, match="pip install http://"),
    ):
        module.ZfsIscsi.verify_dependencies()


def test_start_returns_at_once_and_is_polled(
    machinery: Any, machine: Machine, service: Service
) -> None:
    tell(service, state="clean", run=True)
    machine.snapshot = "win10@3"
    machinery.restore_start(machine)
    (body,) = service.asked("start")
    wanted = {"timeout": 110, "task": "20261201-ABCDEF_1", "image": "win10@3", "wait": False}
    assert body == wanted, "Cuckoo3's task waits 120 s"
    for state in ("clean", "booting", "ready"):
        tell(service, state=state, run=True)
        assert machinery.state(machine) == "starting"
    tell(service, state="running", run=True)
    assert machinery.state(machine) == "running"
    assert len(service.asked("start")) == 1
    machinery.stop(machine)
    tell(service, state="dirty")
    assert machinery.state(machine) == "poweroff"
    with pytest.raises(cuckoo3.MachineStateReachedError):
        machinery.stop(machine)
    assert len(service.asked("stop")) == 1


def test_a_start_that_is_refused(machinery: Any, machine: Machine, service: Service) -> None:
    service.acts["start"] = refuse(409, "host busy", "pc1 has a run already", "zfsiscsi stop pc1")
    with pytest.raises(cuckoo3.MachineryError, match=r"has a run already .*zfsiscsi stop pc1"):
        machinery.restore_start(machine)


def test_quarantine_may_end_in_time(
    machinery: Any, machine: Machine, service: Service, clock: Clock
) -> None:
    machinery.restore_start(machine)
    tell(service, **QUARANTINED, start_error="no dhcp")
    service.acts["start"] = refuse(503, "quarantined", "pc1 is quarantined: no dhcp")
    assert machinery.state(machine) == "starting"
    clock.now += 40
    service.acts["start"] = answer(202, service.hosts["pc1"])
    assert machinery.state(machine) == "starting"
    assert [body and body["timeout"] for body in service.asked("start")] == [110, 110, 70]
    tell(service, state="running", run=True)
    assert machinery.state(machine) == "running"


def test_why_a_start_has_failed(
    machinery: Any, machine: Machine, service: Service, clock: Clock
) -> None:
    service.acts["start"] = refuse(503, "quarantined", "pc1 is quarantined: no dhcp")
    machinery.restore_start(machine)
    tell(service, **QUARANTINED)
    clock.now += 111
    with pytest.raises(cuckoo3.MachineryError, match="did not become ready: no dhcp"):
        machinery.state(machine)
    assert machinery.state(machine) == "poweroff", "it is over"
    machinery.restore_start(machine)
    tell(service, state="clean", start_error="pc1 was not ready after 110 s: still booting")
    clock.now += 111
    with pytest.raises(cuckoo3.MachineryError, match="not ready after 110 s"):
        machinery.state(machine)


def test_a_stop_that_is_proved_late(machinery: Any, machine: Machine, service: Service) -> None:
    tell(service, state="running", run=True)
    service.acts["stop"] = refuse(503, "quarantined", "its power is not yet proved off")
    machinery.stop(machine)
    tell(service, **QUARANTINED)
    assert machinery.state(machine) == "stopping"
    tell(service, state="dirty")
    assert machinery.state(machine) == "poweroff"
    tell(service, **QUARANTINED)
    assert machinery.state(machine) == "poweroff", "of another reason, and nothing to stop"
    tell(service, state="running", run=True)
    service.acts["stop"] = refuse(500, "x", "it is broken")
    with pytest.raises(cuckoo3.MachineryError, match="it is broken"):
        machinery.acpi_stop(machine)


def test_a_service_that_is_restarted(
    machinery: Any, machine: Machine, service: Service, module: Any
) -> None:
    machinery.restore_start(machine)
    away = module.Client("http://127.0.0.1:1")
    machinery._client, there = away, machinery._client
    assert machinery.state(machine) == "starting"
    machinery._client = there
    tell(service, state="unknown")
    assert machinery.state(machine) == "starting"
    assert len(service.asked("start")) == 2, "the run of before is gone"
    with pytest.raises(cuckoo3.MachineStateReachedError):
        machinery.stop(machine)
    machinery._client = away
    assert machinery.state(machine) == "stopping"
    machinery._client = there
    service.acts["/v1/hosts/pc1"] = refuse(401, "unauthorized", "the bearer token is wrong")
    with pytest.raises(cuckoo3.MachineryError, match="token is wrong"):
        machinery.state(machine)


def test_what_an_earlier_life_has_left_is_stopped(make: Any, service: Service) -> None:
    tell(service, state="running", run=True)
    make("pc1", "pc2")
    assert len(service.asked("stop")) == 1


def test_hosts_that_the_service_does_not_have(make: Any, service: Service) -> None:
    with pytest.raises(cuckoo3.MachineNotFoundError, match=r"has no host pc9 .*pc1, pc2"):
        make("pc1", "pc9")
    service.acts["/v1/hosts"] = refuse(401, "unauthorized", "the bearer token is wrong")
    with pytest.raises(cuckoo3.MachineryConnectionError, match="token is wrong"):
        make("pc1")


def test_captures_are_not_full_of_the_disks_traffic(machinery: Any, machine: Machine) -> None:
    agent = ("10.99.0.11", 8000)
    machinery.start_netcapture(machine, Path("x.pcap"), ignore_ip_ports=[agent])
    disks = [("10.99.0.1", 3271), ("10.99.0.1", 3272), ("10.99.20.1", 3271)]
    assert machinery.captured == [agent, *disks]

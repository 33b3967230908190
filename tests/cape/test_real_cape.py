"""The plugin in the real CAPE: analyses on a netbooted host, and what CAPE does when they fail.

Needs a checkout of CAPE in CAPE_ROOT, and in CAPE_PYTHON an interpreter with CAPE's packages (that
of the checkout's .venv if it has one).
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.lab import cape_sample
from cuckoo_zfsiscsi.lab.conf import LABEL
from cuckoo_zfsiscsi.lab.network import SERVER
from tests.cape import real
from tests.cape.real import ANALYSIS, CLEAN, Rig

STOP_MOST = 15.0
"""Seconds that CAPE's main thread waits for a stop."""

pytestmark = [pytest.mark.cape, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with real.up(prewarm=True) as made:
        yield made


def test_what_install_did_suits(
    rig: Rig, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))  # as CAPE has it here
    assert rig.cli("check", "--json", "--cape-python", str(rig.cape.python)) == 1
    findings = json.loads(capsys.readouterr().out)["findings"]
    wrong = [finding["where"] for finding in findings if finding["level"] in ("error", "warning")]
    assert wrong == [f"firewall for {SERVER.ip}"], "it has none"


@pytest.mark.parametrize("way", ["submit.py", "REST", "web form"])
def test_analysis(rig: Rig, way: str) -> None:
    """Each sample infects the host for good; each finds it clean. One follows the other."""
    name = f"by-{way.split()[0].replace('.', '-').lower()}"
    task = rig.client.ways[way](rig.sample(name))
    ended = rig.client.wait(task, Deadline(ANALYSIS))
    assert ended["status"] == "reported"
    assert ended["errors"] == []
    report = rig.client.report(task)
    assert report["info"]["machine"]["label"] == LABEL
    assert report["info"]["machine"]["manager"] == "ZfsIscsi"
    assert "Analysis completed" in report["debug"]["log"]
    # CAPE's own reading of it looks in /opt/CAPEv2 alone
    strace = rig.cape.tree / f"storage/analyses/{task}/logs/strace.log"
    assert f"{name}.py" in strace.read_text(errors="replace"), "the sample did not run"
    network = report["network"]
    flow = (cape_sample.ADDRESS, cape_sample.PORT)
    assert flow in {(tcp["dst"], tcp["dport"]) for tcp in network["tcp"]}
    assert any(f"/{name}?before=none" in http["uri"] for http in network["http"])
    assert not any(3271 in (tcp["sport"], tcp["dport"]) for tcp in network["tcp"])
    assert rig.told[name] == CLEAN


def test_the_service_knows_the_task(rig: Rig) -> None:
    task = rig.client.by_program(rig.sample("long", seconds=10))
    rig.wait(lambda: rig.lab.client.host(LABEL)["state"] == "running", "the run")
    assert rig.lab.client.host(LABEL)["task"] == str(task)
    assert rig.client.wait(task, Deadline(ANALYSIS))["status"] == "reported"
    assert rig.told["long"] == CLEAN


def test_what_a_task_asks_for_in_vain(rig: Rig) -> None:
    task = rig.client.by_program(rig.sample("memory"), "--memory")
    ended = rig.client.wait(task, Deadline(ANALYSIS))
    assert ended["status"] == "reported"
    assert ended["errors"] == [
        f"{LABEL}: a memory dump is asked for: this machinery takes none "
        "(fix: submit without memory)"
    ]
    assert rig.told["memory"] == CLEAN


def test_a_host_that_dies_in_its_run(rig: Rig) -> None:
    """CAPE calls the task reported all the same; the errors say why the report is empty."""
    task = rig.client.by_program(rig.sample("dies", seconds=600))
    rig.wait(lambda: rig.told.get("dies") == CLEAN, "the infection")
    rig.lab.machine.off()
    ended = rig.client.wait(task, Deadline(ANALYSIS))
    assert ended["status"] == "reported"
    (told,) = ended["errors"]
    assert f"seen of {LABEL} in this run, which may explain an empty report: " in told
    assert "its power was off, and the service had not cut it" in told
    assert "its iSCSI session was lost" in told
    assert "its agent did not answer at the end" in told
    assert rig.client.report(task)["debug"]["errors"] == [told]


def test_a_host_that_does_not_start_costs_minutes(rig: Rig) -> None:
    """Its BMC says "on" and it stays off: the row is locked, tasks wait, and it comes back."""
    rig.wait(lambda: rig.lab.client.host(LABEL)["state"] == "ready", "the prewarmed host")
    fault = rig.lab.machine.state / "fault"
    fault.write_text("stuck-off")
    rig.lab.client.reset(LABEL)
    task = rig.client.by_program(rig.sample("after-a-fault"))
    rig.wait(lambda: rig.client.view(task)["errors"], "the failure")
    (told,) = rig.client.view(task)["errors"]
    assert LABEL in told
    assert "still off" in told
    assert "fix:" in told
    rig.wait(lambda: rig.client.view(task)["status"] == "pending", "the way back")
    rig.wait(lambda: rig.machine()["status"] == "quarantined", "the quarantine")
    assert rig.machine()["locked"]
    fault.unlink()
    assert rig.client.wait(task, Deadline(ANALYSIS))["status"] == "reported"
    assert rig.told["after-a-fault"] == CLEAN


def test_a_slow_power_cut_costs_no_more_than_itself(rig: Rig) -> None:
    """Its BMC does not switch off for longer than CAPE's main thread would wait."""
    fault = rig.lab.machine.state / "fault"
    task = rig.client.by_program(rig.sample("slow-cut", seconds=5))
    rig.wait(lambda: rig.told.get("slow-cut") == CLEAN, "the infection")
    fault.write_text("stuck-on")
    rig.wait(lambda: rig.lab.client.host(LABEL)["state"] == "stopping", "the stop")
    time.sleep(STOP_MOST)
    assert rig.machine()["status"] == "running"
    fault.unlink()
    rig.wait(lambda: rig.machine()["status"] == "poweroff", "the release")
    assert rig.client.wait(task, Deadline(ANALYSIS))["status"] == "reported"
    failures = rig.lab.client.history(kind="failure")
    assert not any("not yet proved off" in event["what"] for event in failures)


def test_a_host_in_maintenance_is_waited_for(rig: Rig) -> None:
    """Its row is locked while CAPE runs; a task that asks for it waits."""
    rig.lab.client.maintenance(LABEL, True)
    rig.wait(lambda: rig.machine()["status"] == "quarantined", "the lock")
    assert rig.machine()["locked"]
    task = rig.client.by_program(rig.sample("after-maintenance"))
    rig.wait(lambda: rig.lab.client.host(LABEL)["state"] == "maintenance", "the maintenance")
    assert rig.client.view(task)["status"] == "pending"
    rig.lab.client.maintenance(LABEL, False)
    ended = rig.client.wait(task, Deadline(ANALYSIS))
    assert (ended["status"], ended["errors"]) == ("reported", [])
    assert rig.told["after-maintenance"] == CLEAN


def test_cape_killed_in_a_run(rig: Rig) -> None:
    """Nobody stops the host; CAPE does at its next start, and the next run is clean."""
    task = rig.client.by_program(rig.sample("killed", seconds=60))
    rig.wait(lambda: rig.told.get("killed") == CLEAN, "the infection")
    rig.cape.kill_scheduler(signal.SIGKILL)
    assert rig.lab.client.host(LABEL)["state"] == "running"
    rig.cape.start_scheduler()
    assert rig.client.view(task)["status"] == "failed_analysis"
    task = rig.client.by_program(rig.sample("after-the-kill"))
    assert rig.client.wait(task, Deadline(ANALYSIS))["status"] == "reported"
    assert rig.told["after-the-kill"] == CLEAN


def test_cape_ended_in_a_run(rig: Rig) -> None:
    """SIGTERM: CAPE stops the host before it ends."""
    rig.client.by_program(rig.sample("ended", seconds=60))
    rig.wait(lambda: rig.told.get("ended") == CLEAN, "the infection")
    generation = rig.lab.client.host(LABEL)["generation"]
    rig.cape.kill_scheduler(signal.SIGTERM)
    host = rig.lab.client.host(LABEL)
    assert not host["run"]
    rig.cape.start_scheduler()
    task = rig.client.by_program(rig.sample("after-the-end"))
    assert rig.client.wait(task, Deadline(ANALYSIS))["status"] == "reported"
    assert rig.told["after-the-end"] == CLEAN
    assert rig.lab.client.host(LABEL)["last_boot"]["generation"] > generation


def test_multi(rig: Rig) -> None:
    """Under machinery = multi CAPE deletes the row of a host that fails; it is added again."""
    custom = rig.cape.tree / "custom/conf"
    (custom / "cuckoo.conf.d").mkdir()
    (custom / "cuckoo.conf.d/multi.conf").write_text("[cuckoo]\nmachinery = multi\n")
    (custom / "multi.conf").write_text("[multi]\nmachinery = zfsiscsi\n")
    assert rig.cli("install", "--apply") == 0
    rig.cape.kill_scheduler(signal.SIGTERM)
    rig.cape.start_scheduler()
    task = rig.client.by_program(rig.sample("by-multi"))
    assert rig.client.wait(task, Deadline(ANALYSIS))["status"] == "reported"
    assert rig.told["by-multi"] == CLEAN
    before = rig.machine()

    rig.wait(lambda: rig.lab.client.host(LABEL)["state"] == "ready", "the prewarmed host")
    fault = rig.lab.machine.state / "fault"
    fault.write_text("stuck-off")
    rig.lab.client.reset(LABEL)
    first = rig.client.by_program(rig.sample("fails-under-multi"))
    rig.wait(lambda: rig.client.view(first)["errors"], "the failure")
    rig.wait(lambda: not rig.client.machines(), "the deletion")
    fault.unlink()
    rig.wait(rig.client.machines, "the return")
    after = rig.machine()
    assert {**after, "id": 0, "locked_changed_on": 0, "status_changed_on": 0, "status": ""} == {
        **before, "id": 0, "locked_changed_on": 0, "status_changed_on": 0, "status": "",
    }  # fmt: skip
    assert rig.client.wait(first, Deadline(ANALYSIS))["status"] == "reported"
    assert rig.told["fails-under-multi"] == CLEAN

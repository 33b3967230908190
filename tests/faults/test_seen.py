"""What the service sees of a host in a run, and tells CAPE's task: real session and BMC."""

from __future__ import annotations

import os
import re
import signal
import time

import pytest

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import LabError
from cuckoo_zfsiscsi.lab.cape_database import Machine
from cuckoo_zfsiscsi.lab.cape_scheduler import Scheduler
from cuckoo_zfsiscsi.lab.cape_standin import load_plugin
from cuckoo_zfsiscsi.lab.network import host_address
from cuckoo_zfsiscsi.service.boot import ECHO
from cuckoo_zfsiscsi.service.history import CUT_SHORT
from tests.faults.patience import SERVICE
from tests.faults.small_lab import SmallLab
from tests.waiting import HANG

OFF = "its power was off, and the service had not cut it"
LOST = r"its iSCSI session was lost, and its disk with it: it was seen last \d+ s after the start"
SILENT = r"its agent did not answer at the end: it last did \d+ s after the start \(.+\)"
REBOOTED = "it was rebooted once: it asked for its boot script again"


def is_told(told: list[str], *patterns: str) -> None:
    assert len(told) == len(patterns), told
    for what, pattern in zip(told, patterns, strict=True):
        assert re.fullmatch(pattern, what), told


def reboot(lab: SmallLab) -> None:
    """Reset it as a sample may, not before that is another boot."""
    time.sleep(ECHO + 0.1)
    lab.machine.off()
    lab.machine.on()


def has_agent(lab: SmallLab) -> bool:
    try:
        return bool(lab.ask_guest("/"))
    except LabError:
        return False


def test_a_run_that_goes_well(lab: SmallLab) -> None:
    """CAPE has pinned the agent: it answers nobody else any more."""
    lab.start()
    lab.client.start("pc1", SERVICE)
    lab.fetch_as_guest(f"http://{host_address(1)}:8000/pinning")
    assert lab.client.stop("pc1", SERVICE)["seen"] == []
    assert [run["seen"] for run in lab.client.runs()] == [[]]


def test_a_target_that_dies_in_a_run(lab: SmallLab) -> None:
    """As if the guest had brought it down: it costs the run, which is told so, and nothing more."""
    lab.start()
    lab.client.start("pc1", SERVICE)
    os.kill(int((lab.at / "run/tgtd-pc1.pid").read_text()), signal.SIGKILL)
    lab.wait(lambda: not lab.processes(["tgtd"]), "its end")
    told = lab.client.stop("pc1", SERVICE)["seen"]
    is_told(told, "its iSCSI target ended: tgtd died of SIGKILL", LOST)
    lab.wait(lambda: lab.state() == "clean", "the way back to clean")
    assert "quarantined" not in lab.log.read_text()
    lab.client.start("pc1", SERVICE)
    assert lab.processes(["tgtd"]) == ["tgtd"]
    assert lab.client.stop("pc1", SERVICE)["seen"] == []


def test_a_host_that_goes_off_in_its_run(lab: SmallLab) -> None:
    lab.start()
    lab.client.start("pc1", SERVICE)
    lab.machine.off()
    told = lab.client.stop("pc1", SERVICE)["seen"]
    is_told(told, OFF, LOST, SILENT)
    assert [run["seen"] for run in lab.client.runs()] == [told]
    lab.client.start("pc1", SERVICE)
    assert lab.client.stop("pc1", SERVICE)["seen"] == []


def test_a_host_that_reboots_in_its_run(lab: SmallLab) -> None:
    lab.start()
    generation = lab.client.start("pc1", SERVICE)["generation"]
    reboot(lab)
    lab.wait(lambda: has_agent(lab), "the system's return")
    assert lab.client.stop("pc1", SERVICE)["seen"] == [REBOOTED]
    assert lab.client.runs()[0]["generation"] == generation


def test_a_system_that_lives_without_its_agent(lab: SmallLab) -> None:
    lab.start()
    lab.client.start("pc1", SERVICE)
    lab.play("--only", "rpc")
    reboot(lab)
    probe = ("probe", str(host_address(1)), "--timeout", str(SERVICE))
    lab.wait(lambda: '"ok": true' in lab.run_cli(*probe, code=1), "the system without its agent")
    is_told(lab.client.stop("pc1", SERVICE)["seen"], SILENT, REBOOTED)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_service_that_ends_in_a_run(lab: SmallLab, how: signal.Signals) -> None:
    """CAPE goes on to the end of its analysis, and asks the next service to stop the host."""
    killed = how is signal.SIGKILL
    lab.start()
    lab.client.start("pc1", SERVICE)
    assert lab.client.runs(), "it is on record"
    lab.kill(how)
    lab.start()
    told = [CUT_SHORT if killed else "the service gave it up: the service is stopping"]
    assert lab.client.stop("pc1", SERVICE)["seen"] == told
    assert [run["seen"] for run in lab.client.runs()] == [told]


def test_capes_task_is_told(lab: SmallLab) -> None:
    lab.start()

    def analyse(task: int, _: Machine) -> None:
        if task == 1:
            lab.machine.off()

    plugin = load_plugin(lab.conf)
    scheduler = Scheduler(plugin, analyse)
    scheduler.start()
    try:
        tasks = [scheduler.submit(), scheduler.submit(memory=True)]
        scheduler.run(Deadline(HANG))
        (told,) = scheduler.db.errors(tasks[0])
        prefix = "seen of pc1 in this run, which may explain an empty report: "
        assert told.startswith(prefix)
        is_told(told.removeprefix(prefix).split("; "), OFF, LOST, SILENT)
        assert scheduler.db.errors(tasks[1]) == [
            "pc1: a memory dump is asked for: this machinery takes none "
            "(fix: submit without memory)"
        ]
    finally:
        scheduler.shutdown()
        plugin._quarantine.end()  # type: ignore[attr-defined]

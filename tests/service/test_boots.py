from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.service.boots import from_event, to_event
from cuckoo_zfsiscsi.service.history import History
from cuckoo_zfsiscsi.service.report import BootReport

READY = BootReport(
    "pc1", 3, "win10@1", True, stages={"dhcp": 2.5, "rpc": 20.0}, recovery_s=21.5, ready=True
)
WARNED = replace(READY, warning="pc1 was not told; say so (fix: a; b)")
STALLED = BootReport("pc1", 4, "win10@1", False, stages={"dhcp": 2.5}, stalled="no tftp: look")


@pytest.mark.parametrize("report", [READY, WARNED, STALLED])
def test_a_boot_becomes_an_event_and_back(report: BootReport) -> None:
    before = time.time()
    event = to_event(report, 30.0)
    assert before <= event.at <= time.time()
    back = from_event(event)
    assert replace(back, started=report.started) == report
    assert back.started == event.at - 30.0


def test_what_an_event_says() -> None:
    event = to_event(READY, 30.0)
    assert (event.ok, event.what, event.stages["recovery"]) == (True, "ready, prewarmed", 21.5)
    assert to_event(WARNED, 30.0).what == f"ready, prewarmed; {WARNED.warning}"
    event = to_event(STALLED, 30.0)
    assert (event.ok, event.what, event.generation) == (False, "no tftp: look", 4)


def test_boots_are_found_by_host(tmp_path: Path) -> None:
    history = History(tmp_path / "runs.sqlite")
    for report in (READY, replace(READY, host="pc2"), STALLED):
        history.note(to_event(report, 1.0))
    found = history.boots("pc1")
    assert [boot.generation for boot in found] == [4, 3]
    assert replace(found[1], started=READY.started) == READY
    assert [boot.stalled for boot in history.boots("pc1", limit=1)] == ["no tftp: look"]
    assert history.boots("pc9") == []
    history.close()

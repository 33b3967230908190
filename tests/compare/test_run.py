from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests

from cuckoo_zfsiscsi.compare.journal import Journal
from cuckoo_zfsiscsi.compare.plan import Plan
from cuckoo_zfsiscsi.compare.rest import Rest
from cuckoo_zfsiscsi.compare.result import make_result
from cuckoo_zfsiscsi.compare.run import GRACE, PAUSE, Comparison
from cuckoo_zfsiscsi.errors import CompareError
from tests.clocks import VirtualClock
from tests.compare.fake_cape import FakeCape, make_report

SERVER = "http://cape.test:8000"


def go(
    plan: Plan,
    cape: FakeCape,
    into: Path,
    *,
    told: list[str] | None = None,
    again: bool = False,
    later: float = 0.0,
) -> dict[str, Any]:
    """Run a plan as far as it goes, so many seconds later; return the result's document."""
    tell, clock = (told if told is not None else []).append, VirtualClock()
    clock.sleep(later)
    rest = Rest(SERVER, None, 6000, session=cape.session, tell=tell, clock=clock)
    with Journal(into, plan.fingerprint) as journal:
        comparison = Comparison(plan, journal, {SERVER: rest}, tell, clock, clock.monotonic)
        if again:
            comparison.again()
        comparison.run()
        return make_result(comparison).document()


def states(document: dict[str, Any], sample: str) -> dict[str, str]:
    (found,) = (one for one in document["samples"] if one["sample"] == sample)
    return {name: one["state"] for name, one in found["environments"].items()}


def test_a_sample_that_hides(
    write_plan: Callable[..., Plan], cape: FakeCape, tmp_path: Path
) -> None:
    told: list[str] = []
    document = go(write_plan(2), cape, tmp_path / "done", told=told)
    hides, loud = document["samples"]
    assert states(document, "hides") == {"kvm": "ran", "metal": "contacted"}
    assert states(document, "loud") == {"kvm": "contacted", "metal": "contacted"}
    assert (hides["evasive"], loud["evasive"]) == (True, False)
    (run, _) = hides["environments"]["metal"]["runs"]
    assert (run["machine"], run["why"]) == ("pc1", "198.51.100.6:8443")
    assert len(cape.tasks) == 2 * 2 * 3
    for task in cape.tasks:
        assert task.form["timeout"] == "60"
        assert task.form["route"] == "none"
        assert ("machine" in task.form) is not ("tags" in task.form)
    # The same sample in both environments before the next one
    order = [(task.sha256, "machine" in task.form) for task in cape.tasks]
    assert all(a[0] == b[0] and a[1] != b[1] for a, b in zip(order[::2], order[1::2], strict=True))
    assert told[-1].endswith("(12 of 12)")


class CrashError(BaseException):
    """The program ends here, as by kill -9."""


class Fuse:
    """Ends the program at step number N."""

    def __init__(self, at: int) -> None:
        self.left = at

    def __call__(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise CrashError


def test_interrupted_at_every_step(
    write_plan: Callable[..., Plan],
    cape: FakeCape,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before and after each request, and before, within and after each line of the journal."""
    monkeypatch.setattr("os.fsync", lambda _file: None)  # nothing is lost but the program
    plan = write_plan(1, lambda text: text.replace("loud = loud\n", ""))
    wanted = go(plan, cape, tmp_path / "whole")
    whole = cape.asked.copy()
    write = Journal.write
    fuse = Fuse(0)

    def break_off(journal: Journal, step: str, **what: Any) -> None:
        fuse()
        fuse.left -= 1
        if fuse.left == 0:
            with (tmp_path / "broken/journal").open("ab") as file:
                file.write(json.dumps({"step": step, **what}).encode()[:-7])
            raise CrashError
        write(journal, step, **what)
        fuse()

    monkeypatch.setattr(Journal, "write", break_off)
    crashes = 0
    while True:
        into = tmp_path / "broken"
        again = FakeCape(cape.play, cape.machines)
        fuse = Fuse(crashes + 1)
        again.tick = fuse
        try:
            go(plan, again, into)
        except CrashError:
            crashes += 1
        else:
            break
        fuse = Fuse(0)
        again.tick = fuse
        assert go(plan, again, into, later=2 * GRACE) == wanted
        assert len(again.tasks) == 4, f"after crash {crashes}"
        assert len({task.form["custom"] for task in again.tasks}) == 4
        for path in into.iterdir():
            path.unlink()
    assert crashes > 2 * len(whole)


def test_all_is_asked_only_once(
    write_plan: Callable[..., Plan], cape: FakeCape, tmp_path: Path
) -> None:
    plan = write_plan()
    first = go(plan, cape, tmp_path / "done")
    before = Counter(cape.asked)
    assert go(plan, cape, tmp_path / "done") == first
    assert set(Counter(cape.asked) - before) == {"GET machines/list/"}


def test_an_answer_that_is_lost(
    write_plan: Callable[..., Plan], cape: FakeCape, tmp_path: Path
) -> None:
    """CAPE made the task, but we were not told; then the other way round."""
    create = cape.create
    lost: list[int] = []

    def lose(request: requests.PreparedRequest) -> Any:
        answer = create(request)
        if len(lost) < 2:
            lost.append(1)
            raise requests.ReadTimeout
        return answer

    cape.create = lose  # type: ignore[method-assign]
    cape.special["tasks/create/file/"] = [None, None, requests.ConnectionError()]
    told: list[str] = []
    document = go(write_plan(), cape, tmp_path / "done", told=told)
    assert states(document, "hides") == {"kvm": "ran", "metal": "contacted"}
    assert len(cape.tasks) == 6
    assert sum("was made before the interruption" in one for one in told) == 2


def test_a_young_submission_is_waited_for(
    write_plan: Callable[..., Plan], cape: FakeCape, tmp_path: Path
) -> None:
    cape.special["tasks/create/file/"] = [requests.ReadTimeout()]
    told: list[str] = []
    go(write_plan(), cape, tmp_path / "done", told=told)
    waits = sum("CAPE may be making its task yet" in one for one in told)
    assert waits == GRACE / PAUSE
    assert len(cape.tasks) == 6


def test_a_server_that_does_not_tell(
    write_plan: Callable[..., Plan], cape: FakeCape, tmp_path: Path
) -> None:
    plan = write_plan()
    path = f"tasks/search/sha256/{plan.files['(baseline)'].sha256}/"
    cape.special["tasks/create/file/"] = [requests.ReadTimeout()]
    cape.special[path] = [{"error": True, "error_value": "Task Search API is Disabled"}]
    with pytest.raises(CompareError, match=r"\[tasksearch\] enabled = yes"):
        go(plan, cape, tmp_path / "done")
    assert states(go(plan, cape, tmp_path / "done"), "hides")["metal"] == "contacted"
    assert len(cape.tasks) == 6


@pytest.mark.parametrize("swap", ["pc2", "win7-kvm"])
def test_another_machine_than_asked_for(
    swap: str, write_plan: Callable[..., Plan], cape: FakeCape, tmp_path: Path
) -> None:
    cape.swap = swap
    document = go(write_plan(), cape, tmp_path / "done")
    assert states(document, "loud")["metal"] == "infrastructure failure"
    (run,) = document["samples"][1]["environments"]["metal"]["runs"]
    assert run["why"] == f"ran on {swap}, not on one with the tags physical, win7"
    assert document["samples"][1]["evasive"] is None


def test_a_report_of_another_machine(
    write_plan: Callable[..., Plan], cape: FakeCape, tmp_path: Path
) -> None:
    """The task's row says one thing, the report another."""
    cape.play = lambda content, machine: make_report("pc2")
    document = go(write_plan(), cape, tmp_path / "done")
    (run,) = document["samples"][0]["environments"]["kvm"]["runs"]
    assert run["why"] == "ran on pc2, win7-kvm, not on win7-kvm"


def test_failures_and_again(
    write_plan: Callable[..., Plan], cape: FakeCape, tmp_path: Path
) -> None:
    honest = cape.play
    cape.play = lambda content, machine: (
        "failed_analysis" if content == b"loud" and machine == "pc1" else honest(content, machine)
    )
    plan = write_plan()
    document = go(plan, cape, tmp_path / "done")
    assert states(document, "loud") == {"kvm": "contacted", "metal": "infrastructure failure"}
    (run,) = document["samples"][1]["environments"]["metal"]["runs"]
    assert run["why"] == "failed_analysis: The analysis hit the critical timeout"
    cape.play = honest
    assert go(plan, cape, tmp_path / "done") == document
    assert len(cape.tasks) == 6
    document = go(plan, cape, tmp_path / "done", again=True)
    assert states(document, "loud") == {"kvm": "contacted", "metal": "contacted"}
    assert len(cape.tasks) == 7


def test_again_repeats_what_did_not_come_to_its_end(
    write_plan: Callable[..., Plan], cape: FakeCape, tmp_path: Path
) -> None:
    honest = cape.play
    plan = write_plan()
    cape.play = lambda content, machine: (
        make_report(machine, completed=False, processes=0)
        if content == b"loud"
        else honest(content, machine)
    )
    document = go(plan, cape, tmp_path / "done")
    assert set(states(document, "loud").values()) == {"infrastructure failure"}
    cape.play = honest
    document = go(plan, cape, tmp_path / "done", again=True)
    assert set(states(document, "loud").values()) == {"contacted"}
    assert len(cape.tasks) == 8


def test_a_baseline_that_fails(
    write_plan: Callable[..., Plan], cape: FakeCape, tmp_path: Path
) -> None:
    """Without it every system's own traffic would count as the sample's."""
    honest = cape.play
    cape.play = lambda content, machine: (
        "failed_processing"
        if content == b"benign" and machine == "win7-kvm"
        else honest(content, machine)
    )
    document = go(write_plan(), cape, tmp_path / "done")
    assert states(document, "loud") == {"kvm": "infrastructure failure", "metal": "contacted"}
    assert document["samples"][1]["evasive"] is None


def test_no_baseline(write_plan: Callable[..., Plan], cape: FakeCape, tmp_path: Path) -> None:
    plan = write_plan(1, lambda text: text.replace("= benign", "= off"))
    document = go(plan, cape, tmp_path / "done")
    assert states(document, "hides")["kvm"] == "contacted"  # what it says of itself: docs
    assert document["baseline"] is None
    assert len(cape.tasks) == 4


def test_refused_and_gone(write_plan: Callable[..., Plan], cape: FakeCape, tmp_path: Path) -> None:
    del cape.machines["win7-kvm"]
    cape.special["tasks/status/1/"] = [{"error": True, "error_value": "Task does not exist"}]
    document = go(write_plan(), cape, tmp_path / "done")
    (run,) = document["samples"][0]["environments"]["kvm"]["runs"]
    assert "Machine 'win7-kvm' does not exist" in run["why"]
    # Task 1 was the other environment's baseline
    assert states(document, "hides")["metal"] == "infrastructure failure"


def test_a_task_that_does_not_end(
    write_plan: Callable[..., Plan], cape: FakeCape, tmp_path: Path
) -> None:
    cape.looks = 10**9
    plan = write_plan()
    document = go(replace(plan, patience=0.0), cape, tmp_path / "done")
    (run,) = document["samples"][0]["environments"]["kvm"]["runs"]
    assert run["why"] == "running after 0 s"


def test_tags_that_cannot_be_looked_up(
    write_plan: Callable[..., Plan], cape: FakeCape, tmp_path: Path
) -> None:
    cape.special["machines/list/"] = [{"error": True, "error_value": "is disabled"}]
    with pytest.raises(CompareError, match=r"\[machinelist\] enabled = yes"):
        go(write_plan(), cape, tmp_path / "done")
    del cape.machines["pc1"]
    with pytest.raises(CompareError, match="no machine with the tags"):
        go(write_plan(), cape, tmp_path / "done")
    assert cape.tasks == []

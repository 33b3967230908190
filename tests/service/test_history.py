from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.errors import DiskError
from cuckoo_zfsiscsi.service import history
from cuckoo_zfsiscsi.service.events import Event
from cuckoo_zfsiscsi.service.history import CUT_SHORT, History
from cuckoo_zfsiscsi.service.report import BootReport, Run


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[History]:
    made = History(tmp_path / "new/runs.sqlite")
    yield made
    made.close()


def begin(runs: History, task: str | None, host: str, generation: int) -> None:
    runs.begin(Run(task, "win10"), BootReport(host, generation, "win10@2", prewarmed=False))


def test_evidence_is_found_by_task(runs: History) -> None:
    before = time.time()
    begin(runs, "7", "pc1", 3)
    runs.end("pc1")
    begin(runs, None, "pc2", 9)
    begin(runs, "8", "pc1", 4)
    (one,) = runs.find(task="7")
    assert (one.host, one.generation, one.image, one.evidence) == ("pc1", 3, "win10@2", "pc1-g3")
    assert one.ended
    assert before <= one.began <= one.ended <= time.time()
    assert [(run.task, run.ended) for run in runs.find(host="pc1", limit=1)] == [("8", None)]
    assert [run.generation for run in runs.find()] == [4, 9, 3]
    assert runs.find(task="nope") == []


def test_an_end_is_of_the_last_run_and_only_once(runs: History) -> None:
    begin(runs, "1", "pc1", 1)  # the service was killed in it
    begin(runs, "2", "pc1", 2)
    runs.end("pc1")
    ended = runs.find(task="2")[0].ended
    runs.end("pc1")
    assert runs.find(task="2")[0].ended == ended
    assert runs.find(task="1")[0].ended is None


def test_what_was_seen_in_a_run_is_of_the_last_one(runs: History) -> None:
    runs.tell("pc1", ["nobody knows this run"])
    begin(runs, "1", "pc1", 1)
    begin(runs, "2", "pc2", 1)
    runs.tell("pc1", ["its power was off", "and more"])
    runs.tell("pc2", [])
    begin(runs, "3", "pc1", 2)
    assert {run.task: run.seen for run in runs.find()} == {
        "1": ["its power was off", "and more"], "2": [], "3": [],
    }  # fmt: skip


def test_what_a_new_service_recalls_of_the_last_runs(runs: History) -> None:
    begin(runs, "1", "pc1", 1)
    runs.tell("pc1", ["its power was off"])
    runs.end("pc1")
    begin(runs, "2", "pc1", 2)
    runs.end("pc1")
    begin(runs, "3", "pc2", 1)
    runs.tell("pc2", ["its power was off"])
    runs.end("pc2")
    begin(runs, "4", "pc3", 1)
    begin(runs, "5", "pc3", 2)
    for _ in range(2):
        assert runs.recall() == {"pc1": [], "pc2": ["its power was off"], "pc3": [CUT_SHORT]}
    assert {run.task: run.seen for run in runs.find(host="pc3")} == {"5": [CUT_SHORT], "4": []}


def test_old_runs_are_dropped(
    runs: History, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(history, "KEEP", 3)
    for number in range(1, 6):
        begin(runs, str(number), "pc1", number)
        runs.tell("pc1", [str(number)])
    assert [(run.task, run.seen) for run in runs.find()] == [
        ("5", ["5"]), ("4", ["4"]), ("3", ["3"]),
    ]  # fmt: skip
    with sqlite3.connect(tmp_path / "new/runs.sqlite") as other:
        assert other.execute("SELECT count(*) FROM seen").fetchone() == (3,)


def test_a_record_that_can_not_be_kept_stops_no_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file/runs.sqlite", tmp_path / "bad.sqlite"):
        (tmp_path / "bad.sqlite").write_bytes(b"no database" * 100)
        runs = History(path)
        begin(runs, "1", "pc1", 1)
        with pytest.raises(DiskError, match="can't be read"):
            runs.find()
        assert "not on record" in caplog.text
        runs.close()


def test_who_is_late_is_not_stopped(runs: History, caplog: pytest.LogCaptureFixture) -> None:
    runs.close()
    runs.end("pc1")
    assert "it is closed" in caplog.text


def test_another_program_may_read(runs: History, tmp_path: Path) -> None:
    begin(runs, "1", "pc1", 1)
    assert runs.find()
    with sqlite3.connect(tmp_path / "new/runs.sqlite") as other:
        assert other.execute("SELECT task FROM runs").fetchall() == [("1",)]


def test_events(runs: History) -> None:
    boot = Event("pc1", "boot", True, "ready", 3, "win10@2", 40.5, {"rpc": 39.0, "recovery": 41.0})
    runs.note(boot)
    runs.note(Event("pc2", "power", False, "off: no answer"))
    runs.note(Event("pc1", "failure", False, "booting failed"))
    assert runs.events(kind="boot") == [boot]
    assert [event.kind for event in runs.events(host="pc1")] == ["failure", "boot"]
    assert [event.kind for event in runs.events(limit=2)] == ["failure", "power"]


def test_old_events_are_dropped(runs: History, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "KEEP_EVENTS", 3)
    for number in range(1, 6):
        runs.note(Event("pc1", "reset", True, str(number)))
    assert [event.what for event in runs.events()] == ["5", "4", "3"]


def test_what_others_say_is_one_line(runs: History) -> None:
    """A BMC's words end in terminals: no control characters, and not too many."""
    runs.note(Event("pc1", "power", False, "\x1b[31moff\nok" + "x" * 10_000))
    (event,) = runs.events()
    assert event.what.startswith(r"\x1b[31moff\nokxxx")
    assert len(event.what) == 500


def test_a_file_of_before_gets_what_is_new(tmp_path: Path) -> None:
    path = tmp_path / "runs.sqlite"
    with sqlite3.connect(path) as old:
        old.executescript(
            "CREATE TABLE runs (id INTEGER PRIMARY KEY, host TEXT, generation INTEGER, "
            "image TEXT, task TEXT, began REAL, ended REAL);"
            "INSERT INTO runs VALUES (1, 'pc1', 1, 'win10@1', '7', 1.0, 2.0);"
        )
    runs = History(path)
    runs.note(Event("pc1", "reset", True, "done"))
    assert len(runs.events()) == len(runs.find()) == 1
    runs.close()

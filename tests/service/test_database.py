"""The file behind the history: killed, closed, locked, damaged."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.errors import DiskError
from cuckoo_zfsiscsi.service import database
from cuckoo_zfsiscsi.service.database import Database
from tests.waiting import HANG

SCHEMA = "CREATE TABLE IF NOT EXISTS numbers (number INTEGER);"

CHILD = """
import itertools, sys
from pathlib import Path
from cuckoo_zfsiscsi.service.database import Database

file = Database(Path(sys.argv[1]), sys.argv[2])
for number in itertools.count():
    file.write(lambda c, n=number: c.execute("INSERT INTO numbers VALUES (?)", [n]))
    if number % 7 == 0:
        file.read("SELECT 1", [])
        print(number, flush=True)
"""


def insert(file: Database, number: int) -> None:
    file.write(lambda c: c.execute("INSERT INTO numbers VALUES (?)", [number]))


def numbers(file: Database) -> list[int]:
    return [row["number"] for row in file.read("SELECT number FROM numbers ORDER BY rowid", [])]


def test_what_was_written_survives_a_kill(tmp_path: Path) -> None:
    """All that was on record when the service was killed (SIGKILL) is there, in order."""
    path = tmp_path / "file.sqlite"
    for _ in range(5):
        path.unlink(missing_ok=True)
        argv = [sys.executable, "-c", CHILD, str(path), SCHEMA]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout
            said = [int(child.stdout.readline()) for _ in range(6)]
            child.send_signal(signal.SIGKILL)
            said += [int(line) for line in child.stdout.read().split()]
        after = Database(path, SCHEMA)
        found = numbers(after)
        after.close()
        assert len(found) > said[-1], "a number that was on record is gone"
        assert found == list(range(len(found)))


def test_a_read_sees_what_was_written_before(tmp_path: Path) -> None:
    file = Database(tmp_path / "new/file.sqlite", SCHEMA)
    for number in range(200):
        insert(file, number)
    assert numbers(file) == list(range(200))
    file.close()


def test_a_writer_does_not_wait_for_a_locked_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory stays bounded: of too many that wait the oldest are forgotten."""
    monkeypatch.setattr(database, "MOST_WAITING", 10)
    path = tmp_path / "file.sqlite"
    file = Database(path, SCHEMA)
    assert numbers(file) == []
    other = sqlite3.connect(path)
    other.execute("BEGIN EXCLUSIVE")
    insert(file, -1)  # this one holds the thread, or waits with the others
    for number in range(100):
        insert(file, number)
    other.rollback()
    other.close()
    assert numbers(file)[-10:] == list(range(90, 100))
    assert len(numbers(file)) <= 11
    file.close()


def test_closed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = Database(tmp_path / "file.sqlite", SCHEMA)
    file.close()
    insert(file, 1)
    assert "it is closed" in caplog.text
    with pytest.raises(DiskError, match="can't be read"):
        file.read("SELECT 1", [])


def test_a_reader_does_not_wait_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "READ_TIMEOUT", 0.1)
    file, goes_on = Database(tmp_path / "file.sqlite", SCHEMA), threading.Event()
    file.write(lambda _: goes_on.wait(HANG))
    with pytest.raises(DiskError, match="was not read in"):
        file.read("SELECT 1", [])
    goes_on.set()
    file.close()

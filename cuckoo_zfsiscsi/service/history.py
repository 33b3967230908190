"""The history: which run had which disk, and every boot, reset, power action and failure.

By a task's id one finds host and generation, and so its evidence.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from cuckoo_zfsiscsi.isolation import Attempt
from cuckoo_zfsiscsi.service.boots import from_event
from cuckoo_zfsiscsi.service.database import Database
from cuckoo_zfsiscsi.service.events import Event, one_line
from cuckoo_zfsiscsi.service.report import BootReport, Run

KEEP = 100_000
"""Runs on record; older ones are dropped."""
KEEP_EVENTS = 500_000
"""Events on record, about 100 MB; older ones are dropped. A run makes about five."""
CUT_SHORT = "the service was started anew in the run, which ended it"
"""What is told of a run that was not over when the service died."""
SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (
    id INTEGER PRIMARY KEY, host TEXT, generation INTEGER, image TEXT, task TEXT,
    began REAL, ended REAL);
CREATE INDEX IF NOT EXISTS runs_task ON runs (task);
CREATE INDEX IF NOT EXISTS runs_host ON runs (host);
CREATE TABLE IF NOT EXISTS seen (run INTEGER PRIMARY KEY, what TEXT);
CREATE TABLE IF NOT EXISTS events (
    id INTEGER PRIMARY KEY, at REAL, host TEXT, kind TEXT, ok INTEGER, what TEXT,
    generation INTEGER, image TEXT, seconds REAL, stages TEXT, prewarmed INTEGER);
CREATE INDEX IF NOT EXISTS events_host ON events (host);
CREATE TABLE IF NOT EXISTS attempts (
    source TEXT, target TEXT, reached TEXT, at REAL, PRIMARY KEY (source, target));
"""
EVENT = "at, host, kind, ok, what, generation, image, seconds, stages, prewarmed"
"""Columns of an event: the fields of Event."""


@dataclass(frozen=True)
class PastRun:
    """One run."""

    host: str
    generation: int
    image: str
    task: str | None
    began: float
    """Seconds since the epoch."""
    ended: float | None
    """None: it goes on, or the service was killed in it."""
    evidence: str
    """Name of its dirty disk, if that was kept."""
    seen: list[str]
    """What may explain an empty report; often nothing."""


class Runs(Protocol):
    """Is told of runs. It neither waits nor fails."""

    def begin(self, run: Run, report: BootReport) -> None:
        """Note that a run has a host."""
        ...

    def end(self, host: str) -> None:
        """Note that the run of a host is over."""
        ...

    def tell(self, host: str, seen: Sequence[str]) -> None:
        """Note what was seen of a host in its last run."""
        ...


class Nowhere:
    """Implements Runs: notes nothing."""

    def begin(self, run: Run, report: BootReport) -> None:
        """As Runs.begin()."""

    def end(self, host: str) -> None:
        """As Runs.end()."""

    def tell(self, host: str, seen: Sequence[str]) -> None:
        """As Runs.tell()."""


class History:
    """Implements Runs and Events, in a file of SQLite. It writes in a thread of its own.

    Args:
        path: of the file, made if need be.
    """

    def __init__(self, path: Path) -> None:
        self._file = Database(path, SCHEMA)

    def begin(self, run: Run, report: BootReport) -> None:
        """As Runs.begin()."""
        row = (report.host, report.generation, report.image, run.task, time.time())

        def write(file: sqlite3.Connection) -> None:
            file.execute(
                "INSERT INTO runs (host, generation, image, task, began) VALUES (?, ?, ?, ?, ?)",
                row,
            )
            file.execute("DELETE FROM runs WHERE id <= (SELECT max(id) FROM runs) - ?", [KEEP])
            file.execute("DELETE FROM seen WHERE run <= (SELECT max(id) FROM runs) - ?", [KEEP])

        self._file.write(write)

    def end(self, host: str) -> None:
        """As Runs.end()."""
        at = time.time()

        def write(file: sqlite3.Connection) -> None:
            file.execute(
                "UPDATE runs SET ended = ? WHERE id = (SELECT max(id) FROM runs WHERE host = ?) "
                "AND ended IS NULL",
                [at, host],
            )

        self._file.write(write)

    def tell(self, host: str, seen: Sequence[str]) -> None:
        """As Runs.tell()."""
        if not seen:
            return
        text = json.dumps(list(seen))

        def write(file: sqlite3.Connection) -> None:
            file.execute(
                "INSERT OR REPLACE INTO seen SELECT max(id), ? FROM runs WHERE host = ? "
                "HAVING max(id) IS NOT NULL",
                [text, host],
            )

        self._file.write(write)

    def note(self, event: Event) -> None:
        """As Events.note()."""
        row = {**asdict(event), "what": one_line(event.what), "stages": json.dumps(event.stages)}

        def write(file: sqlite3.Connection) -> None:
            file.execute(
                f"INSERT INTO events ({EVENT}) VALUES (:{EVENT.replace(', ', ', :')})",  # noqa: S608 - no value is in it
                row,
            )
            file.execute(
                "DELETE FROM events WHERE id <= (SELECT max(id) FROM events) - ?", [KEEP_EVENTS]
            )

        self._file.write(write)

    def tell_attempts(self, attempts: Sequence[Attempt]) -> None:
        """Note what hosts reached of each other; the last attempt of each pair is kept."""
        rows = [asdict(one) for one in attempts]

        def write(file: sqlite3.Connection) -> None:
            file.executemany(
                "INSERT OR REPLACE INTO attempts VALUES (:source, :target, :reached, :at)", rows
            )

        self._file.write(write)

    def attempts(self) -> list[Attempt]:
        """Return the last attempt of each pair of hosts. Waits.

        Raises:
            DiskError: the file can't be read.
        """
        sql = "SELECT source, target, reached, at FROM attempts"
        return [Attempt(**row) for row in self._file.read(sql, [])]

    def close(self) -> None:
        """Write what is left. Nothing more is asked then, nor noted."""
        self._file.close()

    def find(
        self, *, task: str | None = None, host: str | None = None, limit: int = 50
    ) -> list[PastRun]:
        """Return runs, the newest first. Waits.

        Args:
            task: of this task alone.
            host: of this host alone.
            limit: how many.

        Raises:
            DiskError: the file can't be read.
        """
        sql = (
            "SELECT host, generation, image, task, began, ended, what AS seen "
            "FROM runs LEFT JOIN seen ON seen.run = runs.id WHERE "
            "(?1 IS NULL OR task = ?1) AND (?2 IS NULL OR host = ?2) ORDER BY id DESC LIMIT ?3"
        )
        rows = self._file.read(sql, [task, host, limit])
        return [
            PastRun(
                **{**row, "seen": json.loads(row["seen"] or "[]")},
                evidence=f"{row['host']}-g{row['generation']}",
            )
            for row in rows
        ]

    def recall(self) -> dict[str, list[str]]:
        """Return what was seen in the last run of each host, by label. Waits.

        To be asked before the first run begins: one that is not over was cut short.

        Raises:
            DiskError: the file can't be read.
        """
        sql = (
            "SELECT host, ended, what FROM runs LEFT JOIN seen ON seen.run = runs.id "
            "WHERE id IN (SELECT max(id) FROM runs GROUP BY host)"
        )
        last = {}
        for host, ended, what in self._file.read(sql, []):
            last[host] = json.loads(what or "[]")
            if ended is None and not what:
                last[host] = [CUT_SHORT]
                self.tell(host, last[host])
        return last

    def events(
        self, *, host: str | None = None, kind: str | None = None, limit: int = 50
    ) -> list[Event]:
        """Return events, the newest first. Waits.

        Args:
            host: of this host alone.
            kind: of this kind alone.
            limit: how many.

        Raises:
            DiskError: the file can't be read.
        """
        sql = (
            f"SELECT {EVENT} FROM events WHERE "  # noqa: S608 - no value is in it
            "(?1 IS NULL OR host = ?1) AND (?2 IS NULL OR kind = ?2) ORDER BY id DESC LIMIT ?3"
        )
        rows = self._file.read(sql, [host, kind, limit])
        return [
            Event(
                **{
                    **row,
                    "ok": bool(row["ok"]),
                    "prewarmed": bool(row["prewarmed"]),
                    "stages": json.loads(row["stages"]),
                }
            )
            for row in rows
        ]

    def boots(self, host: str, limit: int = 20) -> list[BootReport]:
        """Return the boots of a host, the newest first. Waits.

        Raises:
            DiskError: the file can't be read.
        """
        return [from_event(event) for event in self.events(host=host, kind="boot", limit=limit)]

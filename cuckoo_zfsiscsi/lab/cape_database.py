"""CAPE's database, as far as a machinery sees it: machines, tasks and their errors, in SQLite.

As in CAPE, a transaction belongs to a thread and may be entered again, and a second writer is told
"database is locked" when the first does not end. A row that was expunged from its thread's session
is a mere copy: what is changed in it reaches the database when it is merged, or added, again.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LOCKED_AFTER = 5.0
"""Seconds that a writer waits for another (sqlite3's own, which CAPE leaves as it is)."""
SCHEMA = """
CREATE TABLE IF NOT EXISTS machines (
    name TEXT UNIQUE, label TEXT UNIQUE, arch TEXT, ip TEXT, platform TEXT, tags TEXT,
    interface TEXT, snapshot TEXT, resultserver_ip TEXT, resultserver_port TEXT,
    reserved INTEGER, locked INTEGER DEFAULT 0, locked_changed_on REAL DEFAULT 0, status TEXT,
    status_changed_on REAL DEFAULT 0);
CREATE TABLE IF NOT EXISTS tasks (
    id INTEGER PRIMARY KEY, status TEXT DEFAULT 'pending', machine TEXT,
    attempts INTEGER DEFAULT 0);
CREATE TABLE IF NOT EXISTS errors (task_id INTEGER, message TEXT);
"""


@dataclass
class Tag:
    """One tag of a machine."""

    name: str


@dataclass
class Machine:
    """One row."""

    name: str
    label: str
    arch: str
    ip: str
    platform: str
    tags: list[Tag]
    interface: str | None
    snapshot: str | None
    resultserver_ip: str
    resultserver_port: str
    reserved: bool
    locked: bool
    status: str | None
    is_expunged: bool = False


class Session:
    """One connection per thread, as SQLAlchemy's scoped_session has it.

    Args:
        path: of the database's file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._local = threading.local()

    @property
    def connection(self) -> sqlite3.Connection:
        """The calling thread's."""
        if getattr(self._local, "connection", None) is None:
            self._local.connection = sqlite3.connect(self._path, timeout=LOCKED_AFTER)
            self._local.connection.row_factory = sqlite3.Row
        connection: sqlite3.Connection = self._local.connection
        return connection

    @contextmanager
    def begin(self) -> Iterator[None]:
        """Have a transaction, or the one that is open already (CAPE's safe_begin)."""
        if getattr(self._local, "is_open", False):
            yield
            return
        self._local.is_open = True
        try:
            yield
            self.connection.commit()
        except BaseException:
            self.connection.rollback()
            raise
        finally:
            self._local.is_open = False

    def expire_all(self) -> None:
        """Forget what was read: here every read is new."""

    def expunge(self, machine: Machine) -> None:
        """Make a copy of a row, that is no longer the session's."""
        machine.is_expunged = True

    def flush(self) -> None:
        """Write what was changed: here that is done at once."""

    def refresh(self, machine: Machine) -> None:
        """Read a row again."""
        found = self.connection.execute("SELECT * FROM machines WHERE name = ?", (machine.name,))
        vars(machine).update(vars(_machine(found.fetchone())))

    def remove(self) -> None:
        """Close the calling thread's connection, if it has one."""
        connection, self._local.connection = getattr(self._local, "connection", None), None
        if connection is not None:
            connection.close()


class Database:
    """The methods that machineries and CAPE's scheduler call, under their names.

    Args:
        path: of the database's file, made if need be.
    """

    def __init__(self, path: Path) -> None:
        self.session = Session(path)
        self._path = path
        with self.session.begin():
            self.session.connection.executescript(SCHEMA)

    def do(self, sql: str, *values: object) -> list[sqlite3.Row]:
        """Run one statement in the calling thread's transaction."""
        return self.session.connection.execute(sql, values).fetchall()

    def clean_machines(self) -> None:
        """Remove all machines."""
        self.do("DELETE FROM machines")

    def add_machine(self, **row: Any) -> None:  # noqa: ANN401
        """Add one."""
        marks = ", ".join("?" * len(row))
        self.do(f"INSERT INTO machines ({', '.join(row)}) VALUES ({marks})", *row.values())  # noqa: S608

    def delete_machine(self, name: str) -> bool:
        """Delete one."""
        found = self.view_machine(name) is not None
        self.do("DELETE FROM machines WHERE name = ?", name)
        return found

    def list_machines(
        self, locked: bool | None = None, *, include_reserved: bool = False
    ) -> list[Machine]:
        """Return machines, without the reserved ones unless they are asked for."""
        rows = self.do("SELECT * FROM machines ORDER BY locked_changed_on, rowid")
        return [
            machine
            for machine in map(_machine, rows)
            if locked in (None, machine.locked) and (include_reserved or not machine.reserved)
        ]

    def view_machine(self, name: str) -> Machine | None:
        """Return one by its name."""
        rows = self.do("SELECT * FROM machines WHERE name = ?", name)
        return _machine(rows[0]) if rows else None

    def view_machine_by_label(self, label: str) -> Machine | None:
        """Return one by its label."""
        rows = self.do("SELECT * FROM machines WHERE label = ?", label)
        return _machine(rows[0]) if rows else None

    def lock_machine(self, machine: Machine) -> Machine:
        """Lock one for a task."""
        machine.is_expunged = False
        return self._set_locked(machine, locked=True, status="running")

    def unlock_machine(self, machine: Machine) -> Machine:
        """Give one free."""
        return self._set_locked(machine, locked=False, status="poweroff")

    def _set_locked(self, machine: Machine, *, locked: bool, status: str) -> Machine:
        machine.locked, machine.status = locked, status
        now = time.time()
        self.do(
            "UPDATE machines SET locked = ?, status = ?, locked_changed_on = ?, "
            "status_changed_on = ? WHERE name = ?", locked, status, now, now, machine.name,
        )  # fmt: skip
        return machine

    def set_machine_status(self, machine: Machine | str, status: str | None) -> None:
        """Change what is shown of one. As with SQLAlchemy, only what differs is written."""
        row = self.view_machine_by_label(machine) if isinstance(machine, str) else machine
        if row is None:
            return
        before, row.status = row.status, status
        if row.is_expunged:
            return
        self.do("UPDATE machines SET status_changed_on = ? WHERE name = ?", time.time(), row.name)
        if status != before:
            self.do("UPDATE machines SET status = ? WHERE name = ?", status, row.name)

    def count_machines_running(self) -> int:
        """How many are locked."""
        return len(self.list_machines(locked=True, include_reserved=True))

    def add_error(self, message: str, task_id: int) -> None:
        """Add an error to a task, in a transaction of its own."""
        other = sqlite3.connect(self._path, timeout=LOCKED_AFTER)
        try:
            with other:
                other.execute("INSERT INTO errors VALUES (?, ?)", (task_id, message))
        finally:
            other.close()

    def errors(self, task_id: int) -> list[str]:
        """Return a task's errors."""
        rows = self.do("SELECT message FROM errors WHERE task_id = ?", task_id)
        return [str(row["message"]) for row in rows]


def _machine(row: sqlite3.Row) -> Machine:
    values = {key: row[key] for key in row.keys() if not key.endswith("_changed_on")}  # noqa: SIM118
    values["tags"] = [Tag(name) for name in str(row["tags"] or "").split(",") if name]
    values["reserved"], values["locked"] = bool(row["reserved"]), bool(row["locked"])
    return Machine(**values)

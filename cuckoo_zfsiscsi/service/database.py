"""A file of SQLite that is written in a thread of its own: who has something to note never waits.

What was written survives kill -9 and power loss: SQLite's rollback journal, with its own fsyncs.
What waits is written in one transaction, so a busy minute costs few of them.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, TimeoutError  # noqa: A004 - 3.10 has its own
from pathlib import Path
from typing import Any

from cuckoo_zfsiscsi.errors import DiskError

LOCKED_AFTER = 10.0
"""Seconds that a write waits for another program."""
READ_TIMEOUT = 10.0
"""Seconds that a reader waits for what is to be written before, and for the disk."""
MOST_WAITING = 10_000
"""Writes that wait at most; while a disk hangs the oldest are forgotten: memory is bounded too."""

Write = Callable[[sqlite3.Connection], object]

log = logging.getLogger(__name__)


class Database:
    """One file, made if need be.

    Args:
        path: of the file.
        schema: SQL that makes what is missing.
        what: it is, for people.
    """

    def __init__(self, path: Path, schema: str, what: str = "the history") -> None:
        self.path = path
        self._what = what
        self._schema = f"BEGIN;{schema}COMMIT;"  # one transaction, not one per statement
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="history")
        self._lock = threading.Lock()
        self._waiting: deque[Write] = deque(maxlen=MOST_WAITING)

    def write(self, write: Write) -> None:
        """Have something written soon. It neither waits nor fails."""
        with self._lock:
            begin = not self._waiting
            self._waiting.append(write)
        if not begin:
            return
        try:
            self._thread.submit(self._write_all)
        except RuntimeError:  # whoever is late must not be stopped by this
            log.warning("something is not on record in %s: it is closed", self.path)

    def read(self, sql: str, values: list[Any]) -> list[sqlite3.Row]:
        """Return what a query finds, all that was to be written before it included. Waits.

        Raises:
            DiskError: the file can't be read.
        """

        def body() -> list[sqlite3.Row]:
            self._write_all()
            return self._on_file(lambda file: file.execute(sql, values).fetchall())

        try:
            return self._thread.submit(body).result(READ_TIMEOUT)
        except TimeoutError:
            raise DiskError(
                f"{self._what}, {self.path}, was not read in {READ_TIMEOUT:g} s",
                fix=f"does its disk work, does another program hold it? fuser -v {self.path}",
            ) from None
        except (OSError, sqlite3.Error, RuntimeError) as error:
            raise DiskError(
                f"{self._what}, {self.path}, can't be read: {error}",
                fix=f"mv {self.path} {self.path}.bad",
            ) from None

    def close(self) -> None:
        """Write what is left. Nothing more is asked then, nor noted."""
        self._thread.shutdown()

    def _write_all(self) -> None:
        with self._lock:
            writes = list(self._waiting)
            self._waiting.clear()
        if not writes:
            return
        try:
            self._on_file(lambda file: [write(file) for write in writes])
        except (OSError, sqlite3.Error) as error:
            log.warning("%d things are not on record in %s: %s", len(writes), self.path, error)

    def _on_file(self, use: Callable[[sqlite3.Connection], list[Any]]) -> list[Any]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self.path, timeout=LOCKED_AFTER)
        connection.row_factory = sqlite3.Row
        try:
            with connection:
                connection.executescript(self._schema)
                return use(connection)
        finally:
            connection.close()

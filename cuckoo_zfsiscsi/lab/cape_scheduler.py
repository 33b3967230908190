"""CAPE's scheduler, as far as a machinery is called by it: also in what it does after failures.

Its main thread gives tasks to machines, one per turn, and kills what is stuck; each task has a
thread of its own. What an analysis is, the caller says.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from cuckoo_zfsiscsi.clock import SYSTEM, Clock, Thread
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.lab.cape_database import Database, Machine
from cuckoo_zfsiscsi.lab.cape_standin import (
    CuckooCriticalError,
    CuckooGuestCriticalTimeout,
    CuckooGuestError,
    CuckooMachineError,
    Machinery,
)

TURN = 1.0
"""Seconds between two turns of the main thread without work."""

log = logging.getLogger(__name__)

Analyse = Callable[[int, Machine], None]
"""Task and machine; raises CuckooGuestCriticalTimeout, CuckooGuestError, or what it likes."""


class _ErrorHandler(logging.Handler):
    """CAPE's DatabaseHandler."""

    def __init__(self, db: Database) -> None:
        super().__init__()
        self._db = db

    def emit(self, record: logging.LogRecord) -> None:
        if hasattr(record, "task_id"):
            self._db.add_error(self.format(record), int(record.task_id))


class Scheduler:
    """One CAPE, from its start to its end.

    Args:
        machinery: the plugin.
        analyse: what is done with a machine that is up.
        stuck_after: seconds after which a task's machine is stopped, again in every turn.
        startups: max_vmstartup_count of cuckoo.conf: starts at a time.
        turn: seconds between two turns.
        is_multi: `machinery = multi`, where of the plugin's failure methods none is called.
        clock: that it goes by; that of the plugin.
    """

    def __init__(
        self,
        machinery: Machinery,
        analyse: Analyse,
        *,
        stuck_after: float = 400.0,
        startups: int = 5,
        turn: float = TURN,
        is_multi: bool = False,
        clock: Clock = SYSTEM,
    ) -> None:
        self._clock = clock
        self.machinery = machinery
        self.db: Database = machinery.db
        self.longest_turn = 0.0
        """Seconds for which the main thread stood still."""
        self._analyse = analyse
        self._stuck_after = stuck_after
        self._turn = turn
        self._machine_lock: Any = threading.BoundedSemaphore(startups) if startups else None
        self._machine_lock = self._machine_lock or threading.Lock()
        # MultiMachinery hands on start, stop and _status only: the rest is the base class's.
        self._failures: Any = Machinery if is_multi else type(machinery)
        self._began: dict[int, tuple[float, Machine]] = {}
        self._threads: list[Thread] = []
        self._tasks: dict[int, SimpleNamespace] = {}
        self._handler = _ErrorHandler(self.db)

    def submit(self, machine: str | None = None, *, memory: bool = False, options: str = "") -> int:
        """Add a task; return its id.

        Args:
            machine: that it must have.
            memory: a memory dump is asked for.
            options: for the analysis: key=value,key=value.
        """
        with self.db.session.begin():
            self.db.do("INSERT INTO tasks (machine) VALUES (?)", machine)
            task = int(self.db.do("SELECT last_insert_rowid() AS id")[0]["id"])
        self._tasks[task] = SimpleNamespace(id=task, memory=memory, options=options)
        return task

    def status(self, task: int) -> str:
        """Return a task's status."""
        return str(self.db.do("SELECT status FROM tasks WHERE id = ?", task)[0]["status"])

    def start(self) -> None:
        """Do what CAPE does at its start: running tasks have failed, machines are checked.

        Raises:
            CuckooCriticalError: it does not start.
        """
        logging.getLogger().addHandler(self._handler)
        with self.db.session.begin():
            self.db.do("UPDATE tasks SET status = 'failed_analysis' WHERE status = 'running'")
        try:
            with self.db.session.begin():
                self.machinery.initialize()
        except CuckooMachineError as error:
            raise CuckooCriticalError("Error initializing machines") from error

    def run(self, deadline: Deadline) -> None:
        """Take turns until no task is pending or running.

        Raises:
            DeadlineExceededError, CancelledError: as Deadline.check().
        """
        while self._is_busy():
            began = self._clock.monotonic()
            worked = self.turn()
            self.longest_turn = max(self.longest_turn, self._clock.monotonic() - began)
            if not worked:
                deadline.sleep(self._turn, "the tasks")

    def turn(self) -> bool:
        """Do one round of the main thread; return whether a task was begun."""
        for task, (began, machine) in list(self._began.items()):
            if self._clock.monotonic() - began > self._stuck_after:
                try:
                    with self.db.session.begin():
                        self.machinery.stop(machine.label)
                except Exception as error:  # noqa: BLE001 - as CAPE has it
                    log.error("Failed to kill stuck VM for task #%s: %s", task, error)
        with self.db.session.begin():
            for row in self.db.do("SELECT * FROM tasks WHERE status = 'pending' ORDER BY id"):
                found = self._find_machine(row["machine"])
                if found is not None:
                    self._begin(int(row["id"]), found)
                    break
            else:
                return False
        self._threads[-1].start()
        return True

    def shutdown(self) -> None:
        """Do what CAPE does at its end: it does not wait for the tasks."""
        with self.db.session.begin():
            self._failures.shutdown(self.machinery)
        logging.getLogger().removeHandler(self._handler)

    def _is_busy(self) -> bool:
        return bool(self.db.do("SELECT 1 FROM tasks WHERE status IN ('pending', 'running')"))

    def _find_machine(self, label: str | None) -> Machine | None:
        for machine in self.db.list_machines(locked=False, include_reserved=bool(label)):
            if label in (None, machine.label):
                return machine
        return None

    def _begin(self, task: int, machine: Machine) -> None:
        self.db.do(
            "UPDATE tasks SET status = 'running', machine = ?, attempts = attempts + 1 "
            "WHERE id = ?", machine.label, task,
        )  # fmt: skip
        self.db.lock_machine(machine)
        self.db.session.expunge(machine)
        self._began[task] = (self._clock.monotonic(), machine)
        thread = self._clock.thread(lambda: self._work(task, machine), f"task-{task}")
        # CAPE's is a thread itself (AnalysisManager), which has its task's row, read before
        setattr(thread, "task", self._tasks.get(task))  # noqa: B010 - Thread has none
        self._threads.append(thread)

    def _work(self, task: int, machine: Machine) -> None:
        try:
            is_good = self._run_on_machine(task, machine)
        except _DeadMachineError:
            self._set_status(task, "pending")
        except Exception:
            log.exception("task %s: unexpected exception", task)
            self._set_status(task, "failed_analysis", unlock=machine)
        else:  # that it is unlocked once more, behind release(), is CAPE's way
            self._set_status(task, "completed", unlock=None if is_good else machine)
        finally:
            self._began.pop(task, None)
            self.db.session.remove()

    def _set_status(self, task: int, status: str, *, unlock: Machine | None = None) -> None:
        with self.db.session.begin():
            self.db.do("UPDATE tasks SET status = ? WHERE id = ?", status, task)
            if unlock:
                self.db.unlock_machine(unlock)

    def _run_on_machine(self, task: int, machine: Machine) -> bool:
        """Return whether the guest did as it was told; stop() is not called after a failed start().

        AnalysisManager.perform_analysis() and its machine_running().
        """
        is_dead = False
        try:
            with self.db.session.begin():
                asked: list[str] = []
                self.db.session.connection.set_trace_callback(asked.append)
                try:
                    with self._machine_lock:
                        self.machinery.start(machine.label)
                finally:
                    self.db.session.connection.set_trace_callback(None)
                if asked:
                    raise AssertionError(f"start() locks submitters out of the database: {asked}")
            try:
                self._analyse(task, machine)
            except CuckooGuestError as error:
                log.exception("task %s: %s", task, error)
                return False
            return True
        except (CuckooMachineError, CuckooGuestCriticalTimeout) as error:
            is_dead = True
            log.exception("task %s: %s", task, error)
            with self.db.session.begin():
                self.db.do("UPDATE tasks SET machine = NULL WHERE id = ?", task)
                self._failures.delete_machine(self.machinery, machine.name)
            raise _DeadMachineError(machine.name) from error
        finally:
            if not is_dead:
                try:
                    with self.db.session.begin():
                        self.machinery.stop(machine.label)
                except CuckooMachineError as error:
                    log.warning("Unable to stop machine %s: %s", machine.label, error)
                with self.db.session.begin():
                    self._failures.release(self.machinery, machine)


class _DeadMachineError(Exception):
    """The task is put back (CuckooDeadMachine)."""

"""Keeps rows of CAPE's machine table locked while their hosts can't be used.

CAPE deletes the row of a host that failed to start, until it is restarted. Here the row stays, so
that tasks wait for it, and is unlocked when the service says that the host is healthy again. With
`machinery = multi` CAPE does not ask us before it deletes a row: then it is added again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from cuckoo_zfsiscsi.cape.client import Client, Json, ServiceError
from cuckoo_zfsiscsi.cape.rows import Owner, Rows
from cuckoo_zfsiscsi.clock import SYSTEM, Clock, Thread
from cuckoo_zfsiscsi.text import shown

LOOK_EVERY = 5.0
"""Seconds between two looks at rows and hosts."""
PAUSE_FIRST, PAUSE_MOST = 30.0, 600.0
"""Seconds that a host that failed stays out at least; twice as long after each failure in a row."""
STOPPED_WITHIN = 30.0
"""Seconds for which a start waits for the end of a stop of ours, at most."""
END = 2.0
"""Seconds that the end of a look is waited for."""
OUT_OF_SERVICE = ("quarantined", "maintenance")
"""Host states in which the service has made sure, or been told, that nobody needs to stop it."""
STOPPING = "stopping"
"""The host state in which power is being cut, and not yet proved off."""

log = logging.getLogger(__name__)


@dataclass
class Case:
    """One host that failed."""

    reason: str
    pause: float
    """Seconds: the last one, the next is longer."""
    not_before: float
    """The clock's monotonic() before which it does not come back."""
    is_late: bool
    """All that failed is that its power was not proved off in time."""
    is_ours: bool
    """A run that it has may be one of ours, so it is ours to stop."""
    waits: bool = True
    """Not back yet."""

    def end(self) -> None:
        """Note that it is back, without a run."""
        self.waits = self.is_ours = False


class Step(IntEnum):
    """What is done about a host, in this order: what takes long comes last."""

    LOCK = 1
    BRING_BACK = 2
    STOP = 3


def next_step(host: Json, owner: Owner | None, case: Case | None, now: float) -> Step | None:
    """Decide what to do about a host now; None: nothing.

    Args:
        host: as the service has it.
        owner: who has its row; None when CAPE has deleted that.
        case: that waits, if there is one.
        now: the clock's monotonic().
    """
    if owner is Owner.CAPE:
        return None  # a task has it
    is_out = host["state"] in OUT_OF_SERVICE
    is_due = case is None or case.not_before <= now
    if owner is Owner.NOBODY and (is_out or not is_due or (case and host["run"])):
        return Step.LOCK
    if is_out or (owner is Owner.NOBODY and case is None):
        return None
    if host["run"]:
        return Step.STOP if case and case.is_ours else None  # CAPE took it for dead: it does not
    return Step.BRING_BACK if is_due and host["state"] != STOPPING else None


def why_unused(host: Json) -> str:
    """Return why the service does not use a host."""
    return shown(": ".join(filter(None, (str(host["state"]), str(host["reason"])))))


class Quarantine:
    """Notes what failed, and sees to the rows. Safe from any thread.

    Only looks ask the database, in a thread of their own: CAPE has a transaction open when it
    calls us.

    Args:
        db: CAPE's database.
        make_client: makes a client of the service.
        stop: stops a host, whatever becomes of it.
        clock: that looks and pauses go by.
    """

    def __init__(
        self,
        db: Any,  # noqa: ANN401 - CAPE's has no type
        make_client: Callable[[], Client],
        stop: Callable[[str], object],
        clock: Clock = SYSTEM,
    ) -> None:
        self._rows = Rows(db)
        self._make_client = make_client
        self._stop = stop
        self._clock = clock
        self._lock = clock.condition()
        self._cases: dict[str, Case] = {}
        self._seen: set[str] = set()
        """Rows that were there once: CAPE puts all on record when the last one is initialized."""
        self._stopping: str | None = None
        self._trouble = ""
        self._thread: Thread | None = None
        self._has_ended = False

    def watch(self, machines: list[Any]) -> None:
        """Begin to watch over these rows, for as long as CAPE runs."""
        for machine in machines:
            self._rows.remember(machine)
        if self._thread is None:
            self._thread = self._clock.thread(self._work, "quarantine")
            self._thread.start()

    def end(self) -> None:
        """Watch no longer."""
        with self._lock:
            self._has_ended = True
            self._lock.notify_all()
        if self._thread:
            self._thread.join(END)

    def failed(self, label: str, reason: str, *, is_ours: bool = True) -> None:
        """Note that a host can't be used; the first reason stays until it has come back.

        Args:
            label: of the host.
            reason: what failed.
            is_ours: a run that the host has may be one of ours.
        """
        with self._lock:
            self._seen.add(label)
            before = self._cases.get(label)
            pause = PAUSE_FIRST
            if before:
                if before.waits and not before.is_late:
                    return
                pause = min(max(2 * before.pause, PAUSE_FIRST), PAUSE_MOST)
                is_ours = is_ours or before.is_ours  # one that nobody has stopped since
            end = self._clock.monotonic() + pause
            self._cases[label] = Case(reason, pause, end, is_late=False, is_ours=is_ours)

    def unproved(self, label: str, reason: str) -> None:
        """Note that a host was not proved off in time. Once it is, nothing was wrong with it."""
        with self._lock:
            self._seen.add(label)
            before = self._cases.get(label)
            if before and before.waits:
                return
            pause = before.pause if before else 0.0
            now = self._clock.monotonic()
            self._cases[label] = Case(reason, pause, now, is_late=True, is_ours=True)

    def proved(self, label: str) -> None:
        """Note that a host is proved off, if only now."""
        with self._lock:
            case = self._cases.get(label)
            if case:
                case.is_ours = False
                case.waits = case.waits and not case.is_late

    def take(self, label: str) -> None:
        """Give a host to the start that begins, whatever failed before: no look stops it then."""
        with self._lock:
            self._lock.wait_for(lambda: self._stopping != label, STOPPED_WITHIN)
            case = self._cases.get(label)
            if case:
                case.waits = False

    def forget(self, label: str) -> None:
        """Note that a host works: its next failure is a first one."""
        with self._lock:
            self._seen.add(label)
            self._cases.pop(label, None)

    def has(self, label: str) -> bool:
        """Tell whether a host failed and is not back yet."""
        with self._lock:
            return label in self._cases and self._cases[label].waits

    def _work(self) -> None:
        while not self._ends_within(LOOK_EVERY):
            self._look_in_peace()

    def _ends_within(self, seconds: float) -> bool:
        with self._lock:
            return self._lock.wait_for(lambda: self._has_ended, seconds)

    def _look_in_peace(self) -> None:
        trouble = ""
        try:
            self._look()
        except ServiceError as error:
            trouble = str(error)
            if trouble != self._trouble:
                log.warning("rows of hosts stay as they are: %s", error)
        except Exception:  # the database may be locked, for one: the next look tries again
            log.exception("rows of hosts can't be looked at")
        finally:
            self._trouble = trouble
            self._rows.end()

    def _look(self) -> None:
        owners = self._rows.owners()
        with self._lock:
            self._seen |= owners.keys()
            deleted = set(self._rows.labels) & self._seen - owners.keys()
        for label in deleted:
            self.failed(label, "CAPE deleted it")
        with self._lock:
            cases = {label: case for label, case in self._cases.items() if case.waits}
        hosts = {str(host["label"]): host for host in self._make_client().hosts()}
        now = self._clock.monotonic()
        steps = [
            (step, label)
            for label in self._rows.labels
            if label in hosts and (label in owners or label in deleted)
            for step in [next_step(hosts[label], owners.get(label), cases.get(label), now)]
            if step
        ]
        for step, label in sorted(steps):
            self._do(step, label, hosts[label], cases.get(label))

    def _do(self, step: Step, label: str, host: Json, case: Case | None) -> None:
        if step is Step.STOP:
            self._stop_unless_taken(label, case)
        elif step is Step.LOCK and self._rows.lock(label):
            log.warning(
                "%s is not used for now: %s", label, case.reason if case else why_unused(host)
            )
        elif step is Step.BRING_BACK and self._is_still(label, case):
            self._rows.unlock(label)
            if case:
                case.end()
            reason = f"; it was out for this: {case.reason}" if case else ""
            log.info("%s is back in service%s", label, reason)

    def _is_still(self, label: str, case: Case | None) -> bool:
        """Whether no start, and no failure, has come in between."""
        with self._lock:
            now = self._cases.get(label)
            if case is None:
                return now is None or not now.waits
            return now is case and case.waits

    def _stop_unless_taken(self, label: str, case: Case | None) -> None:
        with self._lock:
            if not self._is_still(label, case):
                return
            self._stopping = label
        try:
            self._stop(label)
        finally:
            with self._lock:
                self._stopping = None
                self._lock.notify_all()

"""Rows of CAPE's machine table that stay locked while their hosts can't be used.

CAPE deletes the row of a host that failed to start, until it is restarted. Here the row stays, so
that tasks wait for it, and is unlocked when the service says that the host is healthy again. With
`machinery = multi` CAPE does not ask us before it deletes a row: then it is added again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cuckoo_zfsiscsi.cape.client import Client, ServiceError
from cuckoo_zfsiscsi.clock import SYSTEM, Clock, Thread

LOOK_EVERY = 5.0
"""Seconds between two looks at rows and hosts."""
PAUSE_FIRST, PAUSE_MOST = 30.0, 600.0
"""Seconds that a host stays out at least; twice as long after each failure in a row."""
END = 2.0
"""Seconds that the end of a look is waited for."""
OUT_OF_SERVICE = ("quarantined", "maintenance")
"""Host states in which the service has made sure, or been told, that nobody needs to stop it."""
COLUMNS = (
    "name", "label", "arch", "ip", "platform", "interface", "snapshot", "resultserver_ip",
    "resultserver_port", "reserved",
)  # fmt: skip
"""What CAPE's add_machine() takes beside the tags."""

log = logging.getLogger(__name__)


@dataclass
class _Case:
    """One host that failed."""

    reason: str
    pause: float
    """Seconds."""
    not_before: float
    """The clock's monotonic() before which it does not come back."""
    waits: bool = True
    """Not back yet."""
    kept: bool = False
    """Its row is locked by us: nobody else unlocks it."""


class Quarantine:
    """Keeps rows locked, and unlocks them when their hosts have healed. Safe from any thread.

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
        self._db = db
        self._make_client = make_client
        self._stop = stop
        self._clock = clock
        self._lock = clock.condition()
        self._cases: dict[str, _Case] = {}
        self._rows: dict[str, dict[str, Any]] = {}
        self._seen: set[str] = set()
        """Rows that were there once: CAPE puts all on record when the last one is initialized."""
        self._thread: Thread | None = None
        self._has_ended = False

    def watch(self, machines: list[Any]) -> None:
        """Begin to watch over these rows, for as long as CAPE runs."""
        for machine in machines:
            row = {column: getattr(machine, column) for column in COLUMNS}
            row["tags"] = ",".join(tag.name for tag in machine.tags)
            self._rows[str(machine.label)] = row
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

    def failed(self, label: str, reason: str) -> None:
        """Note that a host can't be used; the first reason stays until it has come back."""
        with self._lock:
            before = self._cases.get(label)
            if before and before.waits:
                return
            self._seen.add(label)
            pause = min(2 * before.pause, PAUSE_MOST) if before else PAUSE_FIRST
            self._cases[label] = _Case(reason, pause, self._clock.monotonic() + pause)

    def keep(self, label: str) -> bool:
        """Make it ours to unlock the row of a host that failed; return whether it did."""
        with self._lock:
            case = self._cases.get(label)
            if case is None or not case.waits:
                return False
            case.kept = True
            return True

    def forget(self, label: str) -> None:
        """Note that a host works: its next failure is a first one."""
        with self._lock:
            self._seen.add(label)
            self._cases.pop(label, None)

    @property
    def kept(self) -> int:
        """How many rows are locked by us."""
        with self._lock:
            return sum(case.waits and case.kept for case in self._cases.values())

    def _work(self) -> None:
        while not self._ends_within(LOOK_EVERY):
            self._look_in_peace()

    def _ends_within(self, seconds: float) -> bool:
        with self._lock:
            return self._lock.wait_for(lambda: self._has_ended, seconds)

    def _look_in_peace(self) -> None:
        try:
            self._look()
        except ServiceError as error:
            log.warning("hosts stay in quarantine: %s", error)
        except Exception:  # the database may be locked, for one: the next look tries again
            log.exception("hosts in quarantine can't be looked at")
        finally:
            self._db.session.remove()

    def _look(self) -> None:
        with self._db.session.begin():
            present = {str(row.label) for row in self._db.list_machines(include_reserved=True)}
        with self._lock:
            self._seen |= present
            deleted = self._rows.keys() & self._seen - present
        for label in deleted:
            self.failed(label, "CAPE deleted it")
        with self._lock:
            now = self._clock.monotonic()
            waiting = {label: case for label, case in self._cases.items() if case.waits}
        if not waiting:
            return
        hosts = {str(host["label"]): host for host in self._make_client().hosts()}
        for label, case in waiting.items():
            host = hosts.get(label)
            if host is None or host["state"] in OUT_OF_SERVICE:
                continue
            if host["run"]:
                # CAPE took it for dead and does not stop it. One whose start is tried is not ours.
                if case.kept or label not in present:
                    self._stop(label)
            elif case.not_before <= now and self._cases.get(label) is case:
                self._unlock(label, case.kept)
                case.waits = case.kept = False
                log.info("%s is back in service; it was out for this: %s", label, case.reason)

    def _unlock(self, label: str, kept: bool) -> None:
        with self._db.session.begin():
            self._db.session.expire_all()  # what this thread saw of the row is not true any more
            machine = self._db.view_machine_by_label(label)
            if machine is None:
                self._db.add_machine(**self._rows[label])
            elif kept:
                self._db.unlock_machine(machine)

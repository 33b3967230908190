"""Rows of CAPE's machine table: which are locked by us, and how we lock and unlock them.

A row is ours while it is locked and its status says QUARANTINED. CAPE gives it another status
whenever it locks or unlocks it, for a task or behind our back: then it is CAPE's again.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

QUARANTINED = "quarantined"
"""The status. CAPE itself writes "running" and "poweroff"."""
COLUMNS = (
    "name", "label", "arch", "ip", "platform", "interface", "snapshot", "resultserver_ip",
    "resultserver_port", "reserved",
)  # fmt: skip
"""What CAPE's add_machine() takes beside the tags."""


class Owner(Enum):
    """Who has locked a row."""

    NOBODY = "nobody"
    US = "us"
    CAPE = "CAPE"


def owner(row: Any) -> Owner:  # noqa: ANN401 - a row of CAPE's has no type
    """Tell who has locked a row."""
    if not row.locked:
        return Owner.NOBODY
    return Owner.US if row.status == QUARANTINED else Owner.CAPE


def make_ours(db: Any, row: Any) -> None:  # noqa: ANN401
    """Lock a row, whoever has it, in the transaction that the thread has open.

    Args:
        db: CAPE's database.
        row: of the thread's own session.
    """
    db.lock_machine(row)
    db.set_machine_status(row, QUARANTINED)


class Rows:
    """The rows of our hosts, for a thread that has no transaction open: each call is one.

    Args:
        db: CAPE's database.
    """

    def __init__(self, db: Any) -> None:  # noqa: ANN401
        self._db = db
        self._made: dict[str, dict[str, Any]] = {}

    @property
    def labels(self) -> list[str]:
        """The hosts."""
        return list(self._made)

    def remember(self, machine: Any) -> None:  # noqa: ANN401
        """Note what a row is made of."""
        made = {column: getattr(machine, column) for column in COLUMNS}
        made["tags"] = ",".join(tag.name for tag in machine.tags)
        self._made[str(machine.label)] = made

    def owners(self) -> dict[str, Owner]:
        """Return who has each row, by label; a row that CAPE deleted is missing."""
        with self._db.session.begin():
            found = self._db.list_machines(include_reserved=True)
            return {str(row.label): owner(row) for row in found}

    def lock(self, label: str) -> bool:
        """Lock a row that nobody has; return whether it is so."""
        with self._db.session.begin():
            row = self._hold(label)
            is_free = row is not None and owner(row) is Owner.NOBODY
            if is_free:
                make_ours(self._db, row)
            return is_free

    def unlock(self, label: str) -> None:
        """Unlock a row if it is ours; add one that CAPE has deleted."""
        with self._db.session.begin():
            row = self._hold(label)
            if row is None:
                self._db.add_machine(**self._made[label])
            elif owner(row) is Owner.US:
                self._db.unlock_machine(row)

    def end(self) -> None:
        """Give back the thread's connection."""
        self._db.session.remove()

    def _hold(self, label: str) -> Any:  # noqa: ANN401
        """Return a row that nobody else can change before the transaction's end.

        A write comes first: it waits for those who are changing the row, and keeps others waiting.
        What is read after it is true until the end, in SQLite too.
        """
        self._db.session.expire_all()
        row = self._db.view_machine_by_label(label)
        if row is not None:
            self._db.set_machine_status(row, row.status)  # writes when, and not what
            self._db.session.flush()
            self._db.session.refresh(row)
        return row

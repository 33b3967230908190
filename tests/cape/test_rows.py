"""Rows of CAPE's machine table, locked and unlocked beside CAPE, which does the same."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cuckoo_zfsiscsi.cape.rows import Owner, Rows, make_ours, owner
from cuckoo_zfsiscsi.lab.cape_database import Database, Machine

Act = Callable[[Database, Machine], object]


@pytest.fixture
def db(tmp_path: Path) -> Database:
    made = Database(tmp_path / "cape.db")
    with made.session.begin():
        made.add_machine(name="pc1", label="pc1", arch="x64", ip="10.99.0.11", platform="windows",
                         tags="win10,x64", reserved=False)  # fmt: skip
    return made


@pytest.fixture
def rows(db: Database) -> Rows:
    made = Rows(db)
    made.remember(machine(db))
    return made


def machine(db: Database) -> Machine:
    found = db.view_machine_by_label("pc1")
    assert found
    return found


def lock(db: Database, row: Machine) -> None:
    """CAPE has chosen it for a task."""
    db.lock_machine(row)


def unlock_and_lock(db: Database, row: Machine) -> None:
    """CAPE has unlocked it behind our back, and chosen it for a task."""
    db.unlock_machine(row)
    db.lock_machine(row)


def do(db: Database, act: Act) -> None:
    """Do it as another thread of CAPE's does, in a transaction of its own."""

    def work() -> None:
        with db.session.begin():
            act(db, machine(db))
        db.session.remove()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def just_before_the_write(db: Database, monkeypatch: pytest.MonkeyPatch, act: Act) -> None:
    """Do something between our first read and our first write."""
    read = db.view_machine_by_label
    acts = [act]

    def view(label: str) -> Machine | None:
        found = read(label)
        if acts:
            do(db, acts.pop())
        return found

    monkeypatch.setattr(db, "view_machine_by_label", view)


def test_owners(db: Database, rows: Rows) -> None:
    assert rows.owners() == {"pc1": Owner.NOBODY}
    do(db, lock)
    assert rows.owners() == {"pc1": Owner.CAPE}
    do(db, make_ours)
    assert rows.owners() == {"pc1": Owner.US}
    do(db, lambda db, row: db.unlock_machine(row))
    assert rows.owners() == {"pc1": Owner.NOBODY}
    do(db, lambda db, row: db.delete_machine(row.name))
    assert rows.owners() == {}


def test_lock_and_unlock(db: Database, rows: Rows) -> None:
    assert rows.lock("pc1")
    assert owner(machine(db)) is Owner.US
    assert not rows.lock("pc1"), "it is locked already"
    rows.unlock("pc1")
    assert (machine(db).locked, machine(db).status) == (False, "poweroff")


def test_a_tasks_row_is_the_tasks(db: Database, rows: Rows) -> None:
    do(db, lock)
    assert not rows.lock("pc1")
    rows.unlock("pc1")
    assert owner(machine(db)) is Owner.CAPE


def test_cape_locks_it_first(db: Database, rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    just_before_the_write(db, monkeypatch, lock)
    assert not rows.lock("pc1")
    assert owner(machine(db)) is Owner.CAPE


def test_cape_takes_it_first(db: Database, rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    assert rows.lock("pc1")
    just_before_the_write(db, monkeypatch, unlock_and_lock)
    rows.unlock("pc1")
    assert owner(machine(db)) is Owner.CAPE, "two tasks would have it"


def test_a_deleted_row_is_added_as_it_was(db: Database, rows: Rows) -> None:
    before = vars(machine(db))
    do(db, lambda db, row: db.delete_machine(row.name))
    assert not rows.lock("pc1")
    rows.unlock("pc1")
    assert vars(machine(db)) == before


def test_copies_reach_the_database_when_they_are_unlocked_alone(db: Database) -> None:
    """What CAPE hands to release() is one: the double would hide that it writes nothing."""
    copy: Any = machine(db)
    db.session.expunge(copy)
    with db.session.begin():
        db.set_machine_status(copy, "quarantined")
    assert machine(db).status is None
    with db.session.begin():
        db.unlock_machine(copy)
    assert machine(db).status == "poweroff"

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.deadline import Cancel, Deadline
from cuckoo_zfsiscsi.disk.store.record import (
    locked,
    make_directory,
    read_record,
    try_lock,
    write_record,
)
from cuckoo_zfsiscsi.errors import CancelledError, DeadlineExceededError, DiskError
from tests.waiting import HANG


def test_is_read_as_it_was_written_and_for_root_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    assert read_record(path) is None
    write_record(path, {"a": 1})
    write_record(path, {"a": [2, None]})
    assert read_record(path) == {"a": [2, None]}
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("content", [b"", b'{"a": 1', b"[1]", b"\xff\xfe"])
def test_says_that_it_is_damaged(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(DiskError, match=r"a\.json is damaged"):
        read_record(path)


def test_says_that_it_is_not_even_a_file(tmp_path: Path) -> None:
    with pytest.raises(DiskError, match="is damaged"):
        read_record(tmp_path)


def test_keeps_the_old_one_when_there_is_no_space(tiny: Path) -> None:
    path = tiny / "a.json"
    write_record(path, {"a": 1})
    (tiny / "ballast").write_bytes(bytes(7 << 20))
    with pytest.raises(OSError, match="No space"):
        write_record(path, {"a": "x" * (4 << 20)})
    assert read_record(path) == {"a": 1}
    assert {entry.name for entry in tiny.iterdir()} == {"a.json", "ballast"}


def test_directories_are_for_root_alone(tmp_path: Path) -> None:
    for _ in range(2):
        make_directory(tmp_path / "d")
    assert (tmp_path / "d").stat().st_mode & 0o777 == 0o700


def test_lock_is_held_by_one_and_waits_for_its_turn(tmp_path: Path) -> None:
    order: list[str] = []

    def other() -> None:
        with locked(tmp_path / "lock", Deadline(HANG), "waiting"):
            order.append("other")

    with locked(tmp_path / "lock", Deadline(HANG), "waiting"):
        thread = threading.Thread(target=other)
        thread.start()
        with (
            pytest.raises(DeadlineExceededError, match="waiting took"),
            locked(tmp_path / "lock", Deadline(0.1), "waiting"),
        ):
            order.append("never")
        cancel = Cancel()
        cancel.set("enough")
        with (
            pytest.raises(CancelledError),
            locked(tmp_path / "lock", Deadline(HANG, cancel), "waiting"),
        ):
            order.append("never")
        order.append("first")
    thread.join()
    assert order == ["first", "other"]


def test_lock_belongs_to_the_open_file(tmp_path: Path) -> None:
    one, two = (os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT) for _ in range(2))
    assert try_lock(one)
    assert not try_lock(two)
    os.close(one)
    assert try_lock(two)
    os.close(two)

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.deadline import Cancel, Deadline
from cuckoo_zfsiscsi.disk.store import clone as module
from cuckoo_zfsiscsi.disk.store.clone import Meter, check_space, clone, differs, hash_file
from cuckoo_zfsiscsi.errors import (
    CancelledError,
    DeadlineExceededError,
    ImageError,
    StoreFullError,
)
from cuckoo_zfsiscsi.progress import silent
from tests.disk.content import MIB, make_raw, poke
from tests.waiting import HANG


def digest_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("size", [512, 65536 + 512, 3 * MIB, 9 * MIB + 512])
def test_copies_all_data_and_keeps_holes(tmp_path: Path, deadline: Deadline, size: int) -> None:
    source, copy = make_raw(tmp_path / "a", size), tmp_path / "b"
    told: list[tuple[int, int]] = []
    referenced = clone(
        source,
        copy,
        digest=digest_of(source),
        deadline=deadline,
        progress=lambda done, total: told.append((done, total)),
    )
    assert not referenced
    assert copy.read_bytes() == source.read_bytes()
    assert copy.stat().st_blocks <= source.stat().st_blocks
    assert copy.stat().st_mode & 0o777 == 0o600
    assert told[-1] == (size, size)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


@pytest.mark.parametrize("hole", ["begin", "middle", "end", "all"])
def test_copies_holes_anywhere(tmp_path: Path, deadline: Deadline, hole: str) -> None:
    source = tmp_path / "a"
    source.touch()
    os.truncate(source, 6 * MIB)
    for part in {"begin", "middle", "end"} - {hole}:
        if hole != "all":
            poke(source, {"begin": 0, "middle": 3, "end": 5}[part] * MIB, os.urandom(MIB))
    clone(source, tmp_path / "b", digest=digest_of(source), deadline=deadline, progress=silent)
    assert (tmp_path / "b").read_bytes() == source.read_bytes()
    assert (tmp_path / "b").stat().st_blocks == source.stat().st_blocks


def test_references_where_the_file_system_can(btrfs: Path, deadline: Deadline) -> None:
    source = make_raw(btrfs / "a", 32 * MIB)
    assert clone(source, btrfs / "b", digest="not asked", deadline=deadline, progress=silent)
    assert not differs(source, btrfs / "b")
    poke(btrfs / "b", 0)
    assert differs(source, btrfs / "b")
    for name in "ab":
        (btrfs / name).unlink()


def test_refuses_what_is_not_on_record(tmp_path: Path, deadline: Deadline) -> None:
    source = make_raw(tmp_path / "a")
    with pytest.raises(ImageError, match="not what was sealed"):
        clone(source, tmp_path / "b", digest="0" * 64, deadline=deadline, progress=silent)
    assert not (tmp_path / "b").exists()


def test_leaves_nothing_behind_when_it_is_given_up(tmp_path: Path) -> None:
    source, cancel = make_raw(tmp_path / "a", 8 * MIB), Cancel()

    def progress(_done: int, _total: int) -> None:
        cancel.set("the run ended")

    with pytest.raises(CancelledError, match="the run ended"):
        clone(
            source,
            tmp_path / "b",
            digest=digest_of(source),
            deadline=Deadline(HANG, cancel),
            progress=progress,
        )
    assert not (tmp_path / "b").exists()


def test_never_writes_into_a_file_that_is_there(tmp_path: Path, deadline: Deadline) -> None:
    source, other = make_raw(tmp_path / "a"), make_raw(tmp_path / "b")
    before = other.read_bytes()
    with pytest.raises(FileExistsError):
        clone(source, other, digest="", deadline=deadline, progress=silent)
    assert other.read_bytes() == before


def test_looks_for_space_first(tiny: Path, deadline: Deadline) -> None:
    source = tiny / "a"
    source.write_bytes(os.urandom(5 * MIB))
    with pytest.raises(StoreFullError, match=f"no space left in {tiny}"):
        clone(source, tiny / "b", digest=digest_of(source), deadline=deadline, progress=silent)
    assert [entry.name for entry in tiny.iterdir()] == ["a"]
    check_space(tiny, MIB)


def test_leaves_nothing_behind_without_space(
    tiny: Path, deadline: Deadline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "check_space", lambda *_: None)
    source = tiny / "a"
    source.write_bytes(os.urandom(5 * MIB))
    with pytest.raises(OSError, match="No space"):
        clone(source, tiny / "b", digest=digest_of(source), deadline=deadline, progress=silent)
    assert [entry.name for entry in tiny.iterdir()] == ["a"]


def test_hash_is_that_of_the_content(tmp_path: Path) -> None:
    path = make_raw(tmp_path / "a", 9 * MIB + 512)
    assert hash_file(path, deadline=Deadline(HANG), progress=silent) == digest_of(path)
    with pytest.raises(DeadlineExceededError):
        hash_file(path, deadline=Deadline(0), progress=silent)


def test_hash_notices_a_file_that_shrinks(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(os.urandom(4 * MIB))

    def shrink(_done: int, _total: int) -> None:
        os.truncate(path, MIB)

    with pytest.raises(OSError, match="shorter"):
        hash_file(path, deadline=Deadline(HANG), progress=shrink)


def test_sample_sees_both_ends_and_the_size(tmp_path: Path) -> None:
    one, two = make_raw(tmp_path / "a", 64 * MIB), tmp_path / "b"
    two.write_bytes(one.read_bytes())
    assert differs(one, two) == ""
    for offset in (0, MIB - 1, 63 * MIB, 64 * MIB - 1):
        poke(two, offset, bytes([one.read_bytes()[offset] ^ 1]))
        assert "between byte" in differs(one, two)
        two.write_bytes(one.read_bytes())
    os.truncate(two, MIB)
    assert differs(one, two) == "they differ in size"


def test_sample_looks_at_other_places_each_time(tmp_path: Path) -> None:
    one, two = make_raw(tmp_path / "a", 8 * MIB), tmp_path / "b"
    two.write_bytes(one.read_bytes())
    poke(two, 3 * MIB, os.urandom(2 * MIB))
    assert any(differs(one, two) for _ in range(20))


def test_progress_is_told_seldom_and_at_the_end() -> None:
    told: list[int] = []
    meter = Meter(lambda done, _total: told.append(done), 1000)
    for done in range(1001):
        meter(done)
    assert told[0] == 0
    assert told[-1] == 1000
    assert len(told) < 10

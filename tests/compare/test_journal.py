from __future__ import annotations

import os
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.compare.journal import Journal
from cuckoo_zfsiscsi.errors import CompareError


def test_what_was_written_is_there(tmp_path: Path) -> None:
    with Journal(tmp_path / "new/folder", "f") as journal:
        journal.write("submitting", cell="a|b|1", at=1.5)
    with Journal(tmp_path / "new/folder", "f") as journal:
        assert journal.steps[1:] == [{"step": "submitting", "cell": "a|b|1", "at": 1.5}]
    assert (tmp_path / "new/folder/journal").stat().st_mode & 0o077 == 0


def test_a_line_that_was_not_finished_was_not_done(tmp_path: Path) -> None:
    with Journal(tmp_path, "f") as journal:
        journal.write("one")
    with (tmp_path / "journal").open("ab") as file:
        file.write(b'{"step": "tw')
    with Journal(tmp_path, "f") as journal:
        journal.write("three")
    with Journal(tmp_path, "f") as journal:
        assert [step["step"] for step in journal.steps] == ["plan", "one", "three"]


def test_damaged(tmp_path: Path) -> None:
    (tmp_path / "journal").write_text('{"step": "plan", "fingerprint": "f"}\n[]\n')
    with pytest.raises(CompareError, match="line 2 is damaged"):
        Journal(tmp_path, "f")


def test_another_plan(tmp_path: Path) -> None:
    Journal(tmp_path, "f").close()
    with pytest.raises(CompareError, match="begun with another plan"):
        Journal(tmp_path, "g")
    Journal(tmp_path, "f").close()


def test_one_program_at_a_time(tmp_path: Path) -> None:
    with Journal(tmp_path, "f"), pytest.raises(CompareError, match="in use"):
        Journal(tmp_path, "f")
    Journal(tmp_path, "f").close()


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Journal(tmp_path, "f") as journal:

        def full(_file: int, _text: bytes) -> int:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "write", full)
        with pytest.raises(CompareError, match="No space left"):
            journal.write("one")
        assert len(journal.steps) == 1


def test_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CompareError, match="can't be opened"):
        Journal(tmp_path / "file/x", "f")

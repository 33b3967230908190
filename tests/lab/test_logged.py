from __future__ import annotations

from pathlib import Path

import pytest

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import DeadlineExceededError, LabError
from cuckoo_zfsiscsi.lab.logged import Logged
from tests.waiting import HANG


def make(tmp_path: Path, script: str) -> Logged:
    log = tmp_path / "some.log"
    return Logged(["sh", "-c", script], log, tmp_path / "pid", name="some", install="apt some")


def test_its_output_is_in_the_file(tmp_path: Path) -> None:
    log = tmp_path / "some.log"
    daemon = make(tmp_path, "echo up; exec sleep 600")
    daemon.start(Deadline(HANG), lambda: log.exists() and log.read_text() == "up\n")
    daemon.stop(Deadline(HANG))
    assert not daemon.alive()


def test_one_that_ends_at_once(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"^some ended with status 3; some.log: no port$"):
        make(tmp_path, "echo no port >&2; exit 3").start(Deadline(HANG), lambda: False)


def test_one_that_is_not_installed(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"some ended with status 127; .* not found") as error:
        make(tmp_path, "no-such-program").start(Deadline(HANG), lambda: False)
    assert error.value.fix == "apt some"


def test_one_that_does_not_serve(tmp_path: Path) -> None:
    daemon = make(tmp_path, "echo waiting for a disk; exec sleep 600")
    log = tmp_path / "some.log"

    class Now(Deadline):
        @property
        def remaining(self) -> float:
            return 0.0 if log.exists() and log.read_text() else super().remaining

    what = r"the start of some took longer than .*; some.log: waiting for a disk$"
    with pytest.raises(DeadlineExceededError, match=what):
        daemon.start(Now(HANG), lambda: False)
    assert not daemon.alive()

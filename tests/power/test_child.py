from __future__ import annotations

import time
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.deadline import Cancel, Deadline
from cuckoo_zfsiscsi.errors import CancelledError, DeadlineExceededError
from cuckoo_zfsiscsi.power.child import Outcome, run
from tests.processes import alive
from tests.waiting import wait


def shell(script: str, deadline: Deadline, **secrets: str) -> Outcome:
    return run(["sh", "-c", script], secrets=secrets, install="", deadline=deadline, what="it")


def test_outcome() -> None:
    outcome = shell("echo $X; echo oops >&2; exit 3", Deadline(10), X="y")
    assert outcome == Outcome(3, "y\n", "oops\n")
    assert shell("kill -9 $$", Deadline(10)).code == -9


def test_environment_is_not_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "t0ken")
    outcome = shell("env", Deadline(10), X="y")
    assert "X=y" in outcome.stdout
    assert "LC_ALL=C" in outcome.stdout
    assert "t0ken" not in outcome.stdout


def test_output_that_is_no_text() -> None:
    assert shell(r"printf '\377'", Deadline(10)).stdout == "\N{REPLACEMENT CHARACTER}"


def test_more_output_than_a_pipe_holds() -> None:
    assert len(shell("head -c 300000 /dev/zero", Deadline(10)).stdout) == 300000


def test_killed_with_its_children(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    begin = time.monotonic()
    with pytest.raises(DeadlineExceededError, match=r"it took longer than 0\.5 s"):
        shell(f"sleep 60 & echo $! >{pid}; wait", Deadline(0.5))
    assert time.monotonic() - begin < 10
    wait(lambda: not alive(int(pid.read_text())), 10, "its child lives on")


def test_cancelled_before_it_began(tmp_path: Path) -> None:
    cancel = Cancel()
    cancel.set("no need")
    with pytest.raises(CancelledError):
        shell(f"touch {tmp_path}/began", Deadline(10, cancel))
    assert not list(tmp_path.iterdir())

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.deadline import Cancel, Deadline
from cuckoo_zfsiscsi.errors import CancelledError, DeadlineExceededError
from cuckoo_zfsiscsi.power.child import Outcome, run
from tests.processes import alive
from tests.waiting import HANG, wait


def shell(script: str, deadline: Deadline, **secrets: str) -> Outcome:
    return run(["sh", "-c", script], secrets=secrets, install="", deadline=deadline, what="it")


def test_outcome() -> None:
    outcome = shell("echo $X; echo oops >&2; exit 3", Deadline(HANG), X="y")
    assert outcome == Outcome(3, "y\n", "oops\n")
    assert shell("kill -9 $$", Deadline(HANG)).code == -9


def test_environment_is_not_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "t0ken")
    outcome = shell("env", Deadline(HANG), X="y")
    assert "X=y" in outcome.stdout
    assert "LC_ALL=C" in outcome.stdout
    assert "t0ken" not in outcome.stdout


def test_output_that_is_no_text() -> None:
    assert shell(r"printf '\377'", Deadline(HANG)).stdout == "\N{REPLACEMENT CHARACTER}"


def test_more_output_than_a_pipe_holds() -> None:
    assert len(shell("head -c 300000 /dev/zero", Deadline(HANG)).stdout) == 300000


def test_killed_with_its_children(tmp_path: Path) -> None:
    pid, cancel = tmp_path / "pid", Cancel()

    def end() -> None:
        wait(lambda: pid.exists() and pid.read_text().endswith("\n"), what="it never began")
        cancel.set("enough")

    with ThreadPoolExecutor() as pool:
        ending = pool.submit(end)
        with pytest.raises(CancelledError, match="enough"):
            shell(f"sleep 600 & echo $! >{pid}; wait", Deadline(HANG, cancel))
        ending.result(HANG)
    wait(lambda: not alive(int(pid.read_text())), what="its child lives on")


def test_killed_at_the_deadline() -> None:
    with pytest.raises(DeadlineExceededError, match=r"it took longer than 0\.5 s"):
        shell("sleep 600", Deadline(0.5))


def test_cancelled_before_it_began(tmp_path: Path) -> None:
    cancel = Cancel()
    cancel.set("no need")
    with pytest.raises(CancelledError):
        shell(f"touch {tmp_path}/began", Deadline(HANG, cancel))
    assert not list(tmp_path.iterdir())

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cuckoo_zfsiscsi import daemon
from cuckoo_zfsiscsi.daemon import Daemon, left_over
from cuckoo_zfsiscsi.deadline import Cancel, Deadline
from cuckoo_zfsiscsi.errors import (
    CancelledError,
    DeadlineExceededError,
    NetbootError,
    ZfsIscsiError,
)
from tests.processes import alive
from tests.waiting import HANG, wait

Make = Callable[..., Daemon]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[Daemon] = []

    def _make(script: str, **options: object) -> Daemon:
        made.append(Daemon(["sh", "-c", script], tmp_path / "d.pid", **options))  # type: ignore[arg-type]
        return made[-1]

    yield _make
    for one in made:
        one.stop(Deadline(HANG))


def test_runs_and_hands_over_each_line(make: Make, tmp_path: Path) -> None:
    lines: list[str] = []
    child = make(
        'echo "$GREETING"; echo two; exec sleep 60', env={"GREETING": "hello"}, on_line=lines.append
    )
    assert not child.alive()
    child.start(Deadline(HANG), ready=lambda: len(lines) == 2)
    assert lines == ["hello", "two"]
    assert child.tail == "hello / two"
    assert child.alive()
    assert (tmp_path / "d.pid").read_text() == f"{child.pid}\n"
    pid = child.pid
    assert pid
    child.stop(Deadline(HANG))
    child.stop(Deadline(HANG))
    assert not alive(pid)
    assert child.pid is None
    assert not (tmp_path / "d.pid").exists()


def test_a_failing_sink_does_not_stop_the_reading(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    lines: list[str] = []

    def sink(line: str) -> None:
        lines.append(line)
        raise ValueError(line)

    child = make("echo one; echo two; exec sleep 60", on_line=sink)
    child.start(Deadline(HANG), ready=lambda: len(lines) == 2)
    wait(lambda: len(caplog.records) == 2, what="not two errors", seen=lambda: caplog.messages)


def test_lines_are_logged_without_a_sink(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    child = make("echo something; exec sleep 60")
    child.start(Deadline(HANG), ready=lambda: child.tail != "")
    wait(lambda: "sh: something" in caplog.messages, what="not in the log")


def test_missing_program(tmp_path: Path) -> None:
    child = Daemon(
        ["/nonexistent/x"], tmp_path / "d.pid", error=NetbootError, install="apt install x"
    )
    with pytest.raises(NetbootError, match="not installed") as caught:
        child.start(Deadline(HANG))
    assert caught.value.fix == "apt install x"
    assert not child.alive()


def test_death_while_starting_quotes_its_last_words(make: Make) -> None:
    child = make("echo bad port; exit 3", error=NetbootError, fix="ss -ltn")
    with pytest.raises(NetbootError, match="status 3: bad port") as caught:
        child.start(Deadline(HANG), ready=lambda: False)
    assert caught.value.fix == "ss -ltn"


def test_never_ready_is_ended(make: Make) -> None:
    child = make("exec sleep 60")
    with pytest.raises(DeadlineExceededError, match="the start of sh"):
        child.start(Deadline(0.1), ready=lambda: False)
    assert not child.alive()


def test_cancelled_while_starting(make: Make) -> None:
    cancel = Cancel()
    child = make("echo hi; exec sleep 60", on_line=lambda _: cancel.set("stop"))
    with pytest.raises(CancelledError):
        child.start(Deadline(HANG, cancel), ready=lambda: False)
    assert not child.alive()


def test_death_is_seen(make: Make) -> None:
    child = make("exec sleep 60")
    child.start(Deadline(HANG))
    assert child.pid
    os.kill(child.pid, signal.SIGKILL)
    wait(lambda: not child.alive(), what="it seems alive")


def test_one_that_ignores_sigterm_is_killed(make: Make) -> None:
    child = make("trap '' TERM; echo deaf; while :; do sleep 0.1; done")
    child.start(Deadline(HANG), ready=lambda: child.tail == "deaf")
    child.stop(Deadline(0.2))
    assert not child.alive()


def test_a_left_over_is_ended_also_without_a_pid_file(make: Make, tmp_path: Path) -> None:
    code = (
        "import sys, pathlib, os\n"
        "from cuckoo_zfsiscsi.daemon import Daemon\nfrom cuckoo_zfsiscsi.deadline import Deadline\n"
        "d = Daemon(['sh', '-c', sys.argv[2]], pathlib.Path(sys.argv[1]))\n"
        "d.start(Deadline(120), ready=lambda: d.tail == 'up')\n"
        "print(d.pid, flush=True); os._exit(1)\n"
    )
    deaf = "trap '' TERM; echo up; while :; do sleep 0.1; done 2>/dev/null"
    earlier = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "d.pid"), deaf],
        stdout=subprocess.PIPE,
        check=False,
        timeout=HANG,
    )
    old = int(earlier.stdout)
    assert alive(old)
    (tmp_path / "d.pid").unlink()
    other = Daemon(["sleep", "60"], tmp_path / "other.pid")
    other.start(Deadline(HANG))
    make("exec sleep 60", grace=0.3).start(Deadline(HANG))
    assert not alive(old)
    assert other.alive(), "only those with the same pid file are ended"
    other.stop(Deadline(HANG))


def test_a_left_over_counts_until_it_has_let_go_of_its_port(make: Make, tmp_path: Path) -> None:
    """A big process takes a while to die, and its mark is the first to go."""
    code = "import socket, sys, time; s = socket.create_server(('127.0.0.1', int(sys.argv[1])));"
    code += "x = bytearray(1 << 29); x[::4096] = b'x' * (1 << 17); print('up', flush=True)"
    code += "; time.sleep(60)"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    def serve() -> Daemon:
        child = Daemon([sys.executable, "-c", code, str(port)], tmp_path / "d.pid", grace=0.0)
        child.start(Deadline(HANG), ready=lambda: child.tail == "up")
        return child

    first = serve()
    second = serve()
    assert not first.alive()
    second.stop(Deadline(HANG))


def test_what_can_not_be_killed_is_told(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon, "GRACE", 0.05)
    child = make("exec sleep 60", error=NetbootError)
    child.start(Deadline(HANG))
    pid = child.pid
    assert pid
    with monkeypatch.context() as patch:
        patch.setattr(signal, "pidfd_send_signal", lambda *_: None)
        patch.setattr(subprocess.Popen, "terminate", lambda _: None)
        patch.setattr(subprocess.Popen, "kill", lambda _: None)
        with pytest.raises(NetbootError, match="can't be killed"):
            child.stop(Deadline(1))
        with pytest.raises(ZfsIscsiError, match=f"process {pid}, can't be killed"):
            make("exec sleep 60", grace=0.05).start(Deadline(HANG))
    assert child.alive()


def test_all_that_is_left_over_in_a_folder(make: Make, tmp_path: Path) -> None:
    child = make("exec sleep 60")
    child.start(Deadline(HANG))
    assert left_over(tmp_path, "*.pid") == {tmp_path / "d.pid"}
    assert left_over(tmp_path, "e*.pid") == left_over(tmp_path.parent, "*.pid") == set()
    before = child.status
    child.stop(Deadline(HANG))
    assert (before, child.status) == (None, -signal.SIGTERM)
    assert left_over(tmp_path, "*.pid") == set()


def test_a_child_has_the_files_that_it_is_given(make: Make) -> None:
    reader, writer = os.pipe()
    child = make(f"echo hello >/proc/self/fd/{writer}; exec sleep 60", pass_fds=(writer,))
    child.launch(Deadline(HANG))
    os.close(writer)
    with os.fdopen(reader) as pipe:
        assert pipe.readline() == "hello\n"

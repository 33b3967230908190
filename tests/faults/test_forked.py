"""What is forked is as good as what is started: a command of its own, with nothing of ours."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from cuckoo_zfsiscsi import __version__
from cuckoo_zfsiscsi.lab.network import FOLDER
from tests.faults.forked import ForkServer
from tests.faults.small_lab import SmallLab
from tests.waiting import HANG

OURS = Path("/proc/self/ns/net")


def files(pid: int | str) -> Iterator[str]:
    """Return the open sockets and pipes of a process."""
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):  # closed since it was listed
            target = str(link.readlink())
            if target.startswith(("socket:", "pipe:")):
                yield target


def test_exit_codes_and_both_outputs(forks: ForkServer, tmp_path: Path) -> None:
    said = forks.run(["--version"], namespace=OURS, cwd=tmp_path)
    assert said == (0, f"zfsiscsi {__version__}\n", "")
    missing = ["--conf", "not-there.conf", "hosts"]
    code, out, err = forks.run(missing, namespace=OURS, cwd=tmp_path)
    assert (code, out) == (1, "")
    assert err.startswith("error: ")
    assert forks.run(["no-such-command"], namespace=OURS, cwd=tmp_path)[0] == 2


def test_the_environment_is_ours_as_it_is_now(
    forks: ForkServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZFSISCSI_CONF", str(tmp_path / "from-the-environment"))
    assert "from-the-environment" in forks.run(["hosts"], namespace=OURS, cwd=tmp_path)[2]
    monkeypatch.undo()
    assert "from-the-environment" not in forks.run(["hosts"], namespace=OURS, cwd=tmp_path)[2]


def test_one_that_kills_itself(forks: ForkServer, tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as log:
        child = forks.fork(
            ["--conf", "not-there.conf", "hosts"],
            namespace=OURS,
            cwd=tmp_path,
            outputs=[log, log],
            die=("cuckoo_zfsiscsi.errors:ZfsIscsiError.__init__", "before", 1),
        )
        assert child.poll(HANG) == -signal.SIGKILL
    assert forks.run(["--version"], namespace=OURS, cwd=tmp_path)[0] == 0, "the next one"


def test_a_service_has_nothing_of_ours(lab: SmallLab) -> None:
    lab.start()
    first = lab._service
    assert first
    assert not set(files(first.pid)) & set(files("self"))
    assert Path(f"/proc/{first.pid}/cwd").readlink() == lab.at
    there = (FOLDER / lab.network.name).stat().st_ino
    for task in Path(f"/proc/{first.pid}/task").iterdir():
        assert (task / "ns/net").stat().st_ino == there, "a thread in another network"
    mounts = [Path(f"/proc/{pid}/ns/mnt").readlink() for pid in (first.pid, "self")]
    assert mounts[0] == mounts[1], "later mounts would be hidden from it"
    assert lab.kill() == -signal.SIGKILL
    lab.restart()
    assert lab._service
    assert lab._service.pid != first.pid

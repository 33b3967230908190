from __future__ import annotations

import contextlib
import os
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.deadline import Cancel, Deadline
from cuckoo_zfsiscsi.disk.target.tgt_ipc import Ipc, Mode, Op
from cuckoo_zfsiscsi.disk.target.tgt_process import Tgtd
from cuckoo_zfsiscsi.errors import CancelledError, DeadlineExceededError, TargetError
from tests.disk.content import make_raw
from tests.iscsi import free_port
from tests.waiting import HANG

SECRET = "topsecret1234567"


@pytest.fixture
def tgtd(run_dir: Path, tmp_path: Path) -> Iterator[Tgtd]:
    """Return a real one, without a target."""
    one = Tgtd("pc1", make_raw(tmp_path / "disk.raw"), ("127.0.0.1", free_port()), run_dir)
    one.start(Deadline(HANG))
    yield one
    one.stop(Deadline(HANG))


def test_speaks_as_tgtadm_does(tgtd: Tgtd, run_dir: Path) -> None:
    ipc = tgtd.ipc
    name = "iqn.2017-10.test:ipc"
    ipc.call(Mode.TARGET, Op.NEW, f"targetname={name}", tid=7, deadline=Deadline(HANG))
    ipc.call(Mode.ACCOUNT, Op.NEW, f"user=me,password={SECRET}", deadline=Deadline(HANG))
    ipc.call(Mode.ACCOUNT, Op.BIND, "user=me", tid=7, deadline=Deadline(HANG))
    ipc.call(Mode.TARGET, Op.BIND, "initiator-name=iqn.2017-10.test:me", tid=7,
             deadline=Deadline(HANG))  # fmt: skip
    pid = (run_dir / "tgtd-pc1.pid").read_text().strip()
    shown = subprocess.run(
        ["tgtadm", "--lld", "iscsi", "--mode", "target", "--op", "show"],
        env={**os.environ, "TGT_IPC_SOCKET": f"/proc/{pid}/root/run/tgtd"},
        user=tgtd.user,
        group=tgtd.user,
        extra_groups=[],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert shown.startswith(f"Target 7: {name}\n")
    assert "Account information:\n        me\n" in shown
    assert shown.endswith("ACL information:\n        iqn.2017-10.test:me\n")


def test_errors_have_a_code_and_no_secret(tgtd: Tgtd) -> None:
    account = f"user=me,password={SECRET}"
    tgtd.ipc.call(Mode.ACCOUNT, Op.NEW, account, deadline=Deadline(HANG))
    with pytest.raises(TargetError, match="tgtd refused new account: error 14") as caught:
        tgtd.ipc.call(Mode.ACCOUNT, Op.NEW, account, deadline=Deadline(HANG))
    assert SECRET not in repr(caught.value) + str(caught.getrepr(style="long").reprcrash)
    with pytest.raises(TargetError, match="refused show connection 99: error 4 "):
        tgtd.ipc.call(Mode.CONNECTION, Op.SHOW, tid=99, deadline=Deadline(HANG))


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[socket.socket]:
    """Return a listening socket in place of tgtd's."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        yield listener


def call(path: Path, seconds: float = 5.0) -> str:
    return Ipc(path).call(Mode.SYSTEM, Op.SHOW, deadline=Deadline(seconds))


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"", "tgtd closed the connection"),
        (b"\0\0", "tgtd closed the connection"),
        (struct.pack("@II", 0, 100) + b"short", "tgtd closed the connection"),
        (struct.pack("@II", 0, 4), "makes no sense"),
        (struct.pack("@II", 0, 1 << 31), "makes no sense"),
        (struct.pack("@II", 4711, 8), "tgtd refused show system: error 4711"),
    ],
)
def test_nonsense_is_an_error(
    tmp_path: Path, fake: socket.socket, answer: bytes, message: str
) -> None:
    def serve() -> None:
        connection, _ = fake.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    with pytest.raises(TargetError, match=message):
        call(tmp_path / "s")
    thread.join()


def test_silence_ends_with_the_deadline(tmp_path: Path, fake: socket.socket) -> None:
    assert fake.fileno() > 0
    with pytest.raises(DeadlineExceededError, match="tgtd's answer to show system took longer"):
        call(tmp_path / "s", 0.2)
    cancel = Cancel()
    cancel.set("enough")
    with pytest.raises(CancelledError):
        Ipc(tmp_path / "s").call(Mode.SYSTEM, Op.SHOW, deadline=Deadline(HANG, cancel))


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="show system: No such file"):
        call(tmp_path / "s")


def test_who_drips_gains_no_time(tmp_path: Path, fake: socket.socket) -> None:
    """A tgtd that a guest has taken over, one byte at a time."""
    over = threading.Event()

    def serve() -> None:
        connection, _ = fake.accept()
        with connection, contextlib.suppress(OSError):
            connection.sendall(struct.pack("@II", 0, 1 << 20))
            while not over.wait(0.02):
                connection.sendall(b"x")

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with pytest.raises(DeadlineExceededError, match="tgtd's answer to show system"):
            call(tmp_path / "s", 0.5)
    finally:
        over.set()
        thread.join()

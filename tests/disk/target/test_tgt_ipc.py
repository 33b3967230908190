from __future__ import annotations

import os
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.deadline import Cancel, Deadline
from cuckoo_zfsiscsi.disk.target.tgt import TgtTarget
from cuckoo_zfsiscsi.disk.target.tgt_ipc import Code, Ipc, Mode, Op, RefusedError
from cuckoo_zfsiscsi.errors import CancelledError, DeadlineExceededError, TargetError
from tests.waiting import HANG

SECRET = "topsecret1234567"


def test_speaks_as_tgtadm_does(target: TgtTarget, run_dir: Path) -> None:
    ipc = target._ipc
    name = "iqn.2017-10.test:ipc"
    ipc.call(Mode.TARGET, Op.NEW, f"targetname={name}", tid=7, deadline=Deadline(HANG))
    ipc.call(Mode.ACCOUNT, Op.NEW, f"user=me,password={SECRET}", deadline=Deadline(HANG))
    ipc.call(Mode.ACCOUNT, Op.BIND, "user=me", tid=7, deadline=Deadline(HANG))
    ipc.call(Mode.TARGET, Op.BIND, "initiator-name=iqn.2017-10.test:me", tid=7,
             deadline=Deadline(HANG))  # fmt: skip
    shown = subprocess.run(
        ["tgtadm", "--lld", "iscsi", "--mode", "target", "--op", "show"],
        env={**os.environ, "TGT_IPC_SOCKET": str(run_dir / "tgtd.sock")},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert shown.startswith(f"Target 7: {name}\n")
    assert "Account information:\n        me\n" in shown
    assert shown.endswith("ACL information:\n        iqn.2017-10.test:me\n")


def test_errors_have_a_code_and_no_secret(target: TgtTarget) -> None:
    account = f"user=me,password={SECRET}"
    target._ipc.call(Mode.ACCOUNT, Op.NEW, account, deadline=Deadline(HANG))
    with pytest.raises(RefusedError, match="tgtd refused new account: 14") as caught:
        target._ipc.call(Mode.ACCOUNT, Op.NEW, account, deadline=Deadline(HANG))
    assert SECRET not in repr(caught.value) + str(caught.getrepr(style="long").reprcrash)
    with pytest.raises(RefusedError, match="refused delete target 99: NO_TARGET") as caught:
        target._ipc.call(Mode.TARGET, Op.DELETE, tid=99, deadline=Deadline(HANG))
    assert caught.value.code == Code.NO_TARGET


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
        (struct.pack("@II", 4711, 8), "tgtd refused show system: 4711"),
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

"""Parts of the LIO driver that need no kernel target. The others are in tests/zfs/target."""

from __future__ import annotations

import errno
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest

from cuckoo_zfsiscsi.deadline import Cancel, Deadline
from cuckoo_zfsiscsi.disk.target import Session
from cuckoo_zfsiscsi.disk.target import lio_kernel as kernel
from cuckoo_zfsiscsi.disk.target.lio_logins import End, Logins, connected, cut, read_session
from cuckoo_zfsiscsi.disk.target.lio_writer import Writer
from cuckoo_zfsiscsi.errors import CancelledError, DeadlineExceededError, TargetError
from tests.waiting import HANG, wait

INFO = """\
InitiatorName: {name}
InitiatorAlias: {alias}
LIO Session ID: 7   ISID: 0x80 1c 56 a4 00 00  TSIH: 1  SessionType: Normal
Session State: {state}
---------------------[iSCSI Session Values]-----------------------
  CmdSN/WR  :  CmdSN/WC  :  ExpCmdSN  :  MaxCmdSN  :     ITT    :     TTT
 0x00000040   0x00000040   0x6373fd61   0x6373fda0   0xc62f937c   0x00000004
----------------------[iSCSI Connections]-------------------------
CID: 0  Connection State: TARG_CONN_STATE_LOGGED_IN
   Address 10.99.0.11 TCP  StatSN: 0xe9f8a913
"""
FORGED = (
    "x\nLIO Session ID: 99   ISID: 0\nSession State: TARG_SESS_STATE_LOGGED_IN\n"
    "   Address 10.99.0.99 TCP  StatSN: 0"
)
UP = "TARG_SESS_STATE_LOGGED_IN"


class RTSLibError(Exception):
    """Stands in for rtslib's, which only the appliance has."""


@pytest.fixture
def _rtslib(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("rtslib_fb")
    module.RTSLibError = RTSLibError  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "rtslib_fb", module)


@pytest.fixture
def writer(_rtslib: None) -> Writer:
    return Writer()


@pytest.mark.parametrize("alias", ["", "me", FORGED])
def test_a_session_is_what_the_kernel_says_last(alias: str) -> None:
    text = INFO.format(name="iqn.x:pc1.g1", alias=alias, state=UP)
    assert read_session("iqn.x:pc1.g1", text) == Session("iqn.x:pc1.g1", "10.99.0.11", 7)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "No active iSCSI Session for Initiator Endpoint: iqn.x:pc1.g1\n",
        INFO.format(name="iqn.x:pc1.g1", alias="", state="TARG_SESS_STATE_FAILED"),
    ],
)
def test_nobody_is_logged_in(text: str) -> None:
    assert read_session("iqn.x:pc1.g1", text) is None


def there(portal: End) -> set[End]:
    return connected().get(portal, set())


def test_who_is_connected_and_how_that_ends() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, ExitStack() as stack:
        portal = server.getsockname()
        assert there(portal) == set()
        wires = [stack.enter_context(socket.create_connection(portal)) for _ in range(3)]
        first, *rest = [wire.getsockname() for wire in wires]
        assert there(portal) == {first, *rest}
        cut(portal, set(), Deadline(HANG))
        assert there(portal) == {first, *rest}
        cut(portal, {first}, Deadline(HANG))
        assert there(portal) == set(rest)
        with pytest.raises(ConnectionResetError):
            wires[0].recv(1)
        cut(portal, None, Deadline(HANG))
        assert there(portal) == set()
        with socket.create_connection(portal):  # it still listens
            pass


def test_very_many_connections_are_cut() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=200) as server, ExitStack() as stack:
        portal = server.getsockname()
        wires = [stack.enter_context(socket.create_connection(portal)) for _ in range(150)]
        cut(portal, {wire.getsockname() for wire in wires[1:]}, Deadline(HANG))
        assert there(portal) == {wires[0].getsockname()}


def ends(*ports: int) -> list[End]:
    return [("10.99.0.11", port) for port in ports]


class Heard(Logins):
    """Connections that have sent so many bytes, without a kernel."""

    def __init__(self, **said: int) -> None:
        super().__init__(("10.99.0.1", 3271))
        self.said = {("10.99.0.11", int(port.strip("p"))): size for port, size in said.items()}

    def _said(self) -> dict[End, int]:
        return self.said


def test_the_oldest_connections_are_the_sessions() -> None:
    logins = Heard(p1=500, p2=500, p3=48)
    logins.see(ends(2), 1.0)
    logins.see(ends(2, 1, 3), 2.0)
    assert logins.inside(0) == []
    assert logins.inside(2) == ends(2, 1)
    assert logins.inside(3) == ends(2, 1, 3)
    logins.see(ends(1, 3), 3.0)
    assert logins.inside(1) == ends(1)


@pytest.mark.parametrize(
    ("now", "said", "sessions", "late"),
    [
        (2.9, {"p1": 0, "p2": 0}, 0, ()),
        (3.0, {"p1": 0, "p2": 0}, 0, (1, 2)),
        (3.0, {"p1": 47, "p2": 48}, 0, (1,)),  # 2 has waited for 1
        (3.0, {"p1": 48, "p2": 48}, 0, (1,)),
        (3.0, {"p1": 500, "p2": 0}, 1, (2,)),
        (3.0, {"p1": 0, "p2": 500}, 1, (1,)),
        (9.0, {"p1": 0, "p2": 0}, 2, ()),
    ],
)
def test_who_could_have_logged_in(
    now: float, said: dict[str, int], sessions: int, late: tuple[int, ...]
) -> None:
    logins = Heard(**said)
    logins.see(ends(1, 2), 0.0)
    assert logins.late(0, 3.0, 0.0) == set()
    assert logins.late(sessions, 3.0, now) == set(ends(*late))


def test_who_waited_has_his_time_when_it_is_his_turn() -> None:
    logins = Heard(p1=48, p2=48)
    logins.see(ends(1, 2), 0.0)
    logins.late(0, 3.0, 0.0)
    assert logins.late(0, 3.0, 3.0) == set(ends(1))
    logins.see(ends(2), 3.25)
    assert logins.late(0, 3.0, 3.25) == set()
    assert logins.late(0, 3.0, 6.0) == set()
    assert logins.late(0, 3.0, 6.25) == set(ends(2))


def test_silent_ones_that_come_later_give_nobody_more_time() -> None:
    logins = Heard(p1=48, p2=0)
    logins.see(ends(1), 0.0)
    logins.late(0, 3.0, 0.0)
    logins.see(ends(1, 2), 0.1)
    assert logins.late(0, 3.0, 3.1) == set(ends(1, 2))


def test_each_session_keeps_its_number() -> None:
    logins = Heard(p1=500, p2=500, p3=500)

    def last(number: int) -> Session:
        return Session("iqn.x:pc1.g1", "10.99.0.11", number)

    def numbers(number: int, sessions: int) -> list[int]:
        return [one.number for one in logins.sessions(last(number), sessions)]

    assert numbers(7, 1) == [7], "its connection is gone already"
    logins.see(ends(1), 0.0)
    assert numbers(7, 1) == [7]
    logins.see(ends(1, 2), 1.0)
    assert numbers(9, 2) == [7, 9]
    logins.see(ends(1, 2, 3, 4), 2.0)
    assert numbers(12, 4) == [7, 9, -1, 12], "11 was never the last when somebody looked"
    logins.see(ends(3), 3.0)
    assert numbers(11, 1) == [-1]


def test_configfs_that_is_not_mounted(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="configfs is not mounted") as caught:
        kernel.check_kernel(tmp_path)
    assert "mount -t configfs" in caught.value.fix


def test_a_kernel_without_a_target() -> None:
    with pytest.raises(TargetError, match="the kernel has no iSCSI target") as caught:
        kernel.check_kernel(Path("/proc"))  # mounted, and nobody can make a directory there
    assert "modprobe -a target_core_mod" in caught.value.fix


def test_python_without_rtslib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rtslib_fb", None)
    with pytest.raises(TargetError, match="can't import rtslib_fb") as caught:
        kernel.rtslib()
    assert caught.value.fix == "apt install python3-rtslib-fb"


def _hidden() -> None:
    """Fail as rtslib does, which keeps the kernel's reason to itself."""
    try:
        raise OSError(errno.EADDRINUSE, "hidden")
    except OSError:
        raise RTSLibError("its words")  # noqa: B904


def _refused(path: str) -> None:
    raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), path)


def _failed() -> None:
    raise RTSLibError("no reason")


@pytest.mark.parametrize(
    ("call", "said", "fix"),
    [
        (partial(_refused, "/x"), r"making it: .*busy.*/x", "lsblk"),
        (_hidden, r"making it: its words: Address already in use", "ss -ltnp"),
        (_failed, r"making it: no reason", "journalctl -k"),
    ],
)
def test_a_refusal_says_why(writer: Writer, call: Callable[[], None], said: str, fix: str) -> None:
    with pytest.raises(TargetError, match=said) as caught:
        writer.change(call, "making it", Deadline(HANG))
    assert fix in caught.value.fix


def test_what_is_gone_has_nothing_in_it(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    assert kernel.entries(gone) == kernel.links(gone) == []
    assert kernel.get(gone) is None
    kernel.remove(gone)
    kernel.remove_acl(gone)
    kernel.remove_target(gone)


def test_changes_come_one_at_a_time(writer: Writer) -> None:
    under_way = most = 0

    def change() -> int:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        time.sleep(0.005)
        under_way -= 1
        return 1

    threads = [
        threading.Thread(target=writer.change, args=(change, "it", Deadline(HANG)))
        for _ in range(9)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(HANG)
    assert (most, writer.change(change, "it", Deadline(HANG))) == (1, 1)


def test_a_change_that_hangs_keeps_the_next_from_being_made(writer: Writer) -> None:
    hang, made = threading.Event(), []
    with pytest.raises(DeadlineExceededError, match=r"the first took longer than 0\.1 s"):
        writer.change(hang.wait, "the first", Deadline(0.1))
    with pytest.raises(DeadlineExceededError, match="the second"):
        writer.change(lambda: made.append(2), "the second", Deadline(0.3))
    cancel = Cancel()
    threading.Timer(0.1, cancel.set, ["no more"]).start()
    with pytest.raises(CancelledError):
        writer.change(lambda: made.append(3), "the third", Deadline(HANG, cancel))
    hang.set()
    writer.change(lambda: made.append(4), "the fourth", Deadline(HANG))
    assert made == [4], "a change was made though its caller had been told that it was not"


def test_a_removal_that_hangs_keeps_nobody_else_waiting(writer: Writer) -> None:
    hang, calls, path = threading.Event(), [], Path("/k/pc1/acl")

    def removal() -> None:
        calls.append(1)
        hang.wait()

    before = threading.active_count()
    for _ in range(5):
        with pytest.raises(DeadlineExceededError, match="the removal took longer"):
            writer.remove(path, removal, "the removal", Deadline(0.05))
    wait(lambda: calls, what="the removal does not begin")
    time.sleep(0.2)
    assert calls == [1]
    assert writer.change(lambda: 5, "another's", Deadline(HANG)) == 5
    assert threading.active_count() <= before + 3, "each try left a thread behind"
    assert writer.under_way(Path("/k/pc1")) == [path]
    assert writer.under_way(Path("/k/pc2")) == []
    with pytest.raises(DeadlineExceededError):
        writer.settle(Path("/k/pc1"), "looking", Deadline(0.05))
    threading.Timer(0.1, hang.set).start()
    writer.remove(path, removal, "the removal", Deadline(HANG))
    assert calls == [1]
    writer.settle(Path("/k/pc1"), "looking", Deadline(HANG))


def test_a_removal_that_failed_failed_for_all_who_waited(writer: Writer) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def removal() -> None:
        begun.set()
        go_on.wait(HANG)
        raise OSError(errno.EBUSY, "busy")

    caught: list[TargetError] = []

    def remove() -> None:
        with pytest.raises(TargetError, match="busy") as info:
            writer.remove(Path("/k"), removal, "it", Deadline(HANG))
        caught.append(info.value)

    threads = [threading.Thread(target=remove) for _ in range(2)]
    threads[0].start()
    begun.wait(HANG)
    threads[1].start()
    time.sleep(0.2)
    go_on.set()
    for thread in threads:
        thread.join(HANG)
    assert len(caught) == 2
    with pytest.raises(TargetError, match="busy"):
        writer.remove(Path("/k"), removal, "it", Deadline(HANG))

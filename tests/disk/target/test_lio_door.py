"""The watch at the portals without a kernel's target: what it asks, and what it does then."""

from __future__ import annotations

import socket
from collections.abc import Collection, Iterator
from contextlib import ExitStack

import pytest

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.target import lio_door
from cuckoo_zfsiscsi.disk.target.lio_door import MOST, Door
from cuckoo_zfsiscsi.disk.target.lio_logins import End, Logins
from cuckoo_zfsiscsi.errors import TargetError
from tests.waiting import wait


class FakeGroup:
    """A target with a portal of its own, and as many sessions as it is told."""

    def __init__(self) -> None:
        self.server = socket.create_server(("127.0.0.1", 0))
        self.logins = Logins(self.server.getsockname())
        self.sessions = 0
        self.asked = 0
        self.ended: list[End] = []
        self.refused = 0
        self.fails = False

    def count_sessions(self) -> int:
        self.asked += 1
        if self.fails:
            raise OSError("gone")
        return self.sessions

    def cut(self, _deadline: Deadline, which: Collection[End]) -> None:
        self.ended += which

    def refuse(self, _deadline: Deadline) -> bool:
        self.refused += 1
        if self.refused == 1:
            raise TargetError("a fence is under way")
        return self.refused == 2


@pytest.fixture
def groups(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, FakeGroup]]:
    """Two hosts, looked at without a pause, whose logins may take no time."""
    monkeypatch.setattr(lio_door, "PERIOD", 0.005)
    monkeypatch.setattr(lio_door, "PATIENCE", 0.0)
    found = {"pc1": FakeGroup(), "pc2": FakeGroup()}
    door = Door(lambda: found)  # type: ignore[arg-type, return-value]
    yield found
    door.close()
    for group in found.values():
        group.server.close()


def connect(stack: ExitStack, group: FakeGroup) -> End:
    wire = stack.enter_context(socket.create_connection(group.logins.portal))
    end: End = wire.getsockname()
    return end


def test_nobody_is_asked_while_nothing_changes(groups: dict[str, FakeGroup]) -> None:
    one, other = groups.values()
    with ExitStack() as stack:
        one.sessions = 1
        connect(stack, one)
        wait(lambda: one.asked, what="nobody looks")
        other.sessions = 1
        connect(stack, other)
        wait(lambda: other.asked, what="nobody looks")
        before = one.asked
        connect(stack, other)
        wait(lambda: other.ended, what="nobody looks")
        assert one.asked == before
        assert one.ended == []


def test_one_that_fails_keeps_nobody_from_being_looked_at(groups: dict[str, FakeGroup]) -> None:
    one, other = groups.values()
    one.fails = True
    with ExitStack() as stack:
        connect(stack, one)
        wait(lambda: one.asked, what="nobody looks")
        end = connect(stack, other)
        wait(lambda: end in other.ended, what="nobody looks")


def test_too_many_sessions_are_told_once(
    groups: dict[str, FakeGroup], caplog: pytest.LogCaptureFixture
) -> None:
    one = groups["pc1"]
    one.sessions = MOST + 1
    with ExitStack() as stack:
        connect(stack, one)  # the others have lost theirs
        wait(lambda: one.refused > 4, what="nobody minds")
    assert caplog.text.count("pc1 has 9 sessions with its disk: it can't log in any more") == 1
    assert one.ended == []

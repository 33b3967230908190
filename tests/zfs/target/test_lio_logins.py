"""Logins that are begun and not ended. Linux 6.1 waits for them for ever, with everything else."""

from __future__ import annotations

import time
from contextlib import closing

import pytest

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.target import Export
from cuckoo_zfsiscsi.disk.target.lio import LioTarget
from cuckoo_zfsiscsi.disk.target.lio_group import Group
from cuckoo_zfsiscsi.disk.target.lio_logins import End, connected
from cuckoo_zfsiscsi.errors import DeadlineExceededError, TargetError
from tests.iscsi import Initiator, LoginError, RawInitiator, raw
from tests.zfs.target.lio import MakeDisk, export, fence, group, make_target, opened


def there(export: Export) -> set[End]:
    """Return who is connected to a portal."""
    return connected().get((export.portal, export.port), set())


@pytest.mark.parametrize("passed", [False, True])
def test_a_login_begun_before_the_fence_holds_nothing_up_and_never_ends_well(
    target: LioTarget, make_disk: MakeDisk, passed: bool
) -> None:
    found = export(target, make_disk())
    with raw(found) as initiator:
        if passed:
            initiator.security()
        else:
            initiator.begin()
        begin = time.monotonic()
        fence(target)
        assert time.monotonic() - begin < 10, "it waited for the login to time out"
        assert there(found) == set()
        new = export(target, make_disk(generation=2), 1)
        with pytest.raises((LoginError, ConnectionError)):
            initiator.finish()
        assert target.sessions("pc1") == []
    with Initiator(new):
        pass


def test_a_fence_closes_what_is_connected_to_the_hosts_port_and_nothing_else(
    target: LioTarget, make_disk: MakeDisk
) -> None:
    found, other = export(target, make_disk()), export(target, make_disk("pc2"))
    with raw(found) as silent, raw(found) as second, raw(other) as others:
        others.security()
        with closing(RawInitiator(found)) as elsewhere:
            elsewhere.socket.bind(("127.0.0.9", 0))
            elsewhere.connect()
            ends = {one.socket.getsockname() for one in (silent, second, elsewhere)}
            assert there(found) == ends
            fence(target)
            assert there(found) == set()
            for one in (silent, second, elsewhere):
                with pytest.raises(ConnectionResetError):
                    one.socket.recv(1)
        others.finish()
        assert len(target.sessions("pc2")) == 1


def test_a_fence_that_can_not_be_proved_is_none(
    target: LioTarget, make_disk: MakeDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, other = export(target, make_disk()), export(target, make_disk("pc2"))
    with raw(found) as initiator:
        initiator.security()
        with monkeypatch.context() as patch:
            patch.setattr(Group, "cut", lambda *_args, **_more: None)
            for _ in range(2):
                with pytest.raises(DeadlineExceededError, match=r"fencing .*pc1"):
                    target.fence("pc1", deadline=Deadline(1))
            with pytest.raises((TargetError, DeadlineExceededError)):
                export(target, make_disk(generation=2), 1)
            patch.setattr("cuckoo_zfsiscsi.disk.target.lio._ASK_TIMEOUT", 0.2)
            with pytest.raises(TargetError, match="does not answer"):
                target.sessions("pc1")
            with Initiator(other) as sibling:  # meanwhile others are served
                sibling.read(0)
                fence(target, "pc2")
        fence(target)
    assert not list((group() / "acls").iterdir())
    with Initiator(export(target, make_disk(generation=2), 1)):
        pass


def test_the_next_service_is_not_kept_waiting(make_disk: MakeDisk, port: int) -> None:
    first = make_target(port)
    first.open(deadline=Deadline(30))
    found = export(first, make_disk())
    with raw(found) as initiator:
        initiator.begin()
        begin = time.monotonic()
        with opened(make_target(port)):
            assert time.monotonic() - begin < 10
            with pytest.raises((LoginError, ConnectionError)):
                initiator.finish()

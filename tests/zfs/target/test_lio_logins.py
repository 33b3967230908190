"""Logins that are begun and not ended. Linux 6.1 waits for them for ever, with everything else."""

from __future__ import annotations

import time
from contextlib import closing
from ipaddress import IPv4Address

import pytest

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.target.lio import LioTarget
from cuckoo_zfsiscsi.disk.target.lio_logins import peers
from cuckoo_zfsiscsi.errors import DeadlineExceededError, TargetError
from tests.iscsi import Initiator, LoginError, RawInitiator, raw
from tests.zfs.target.lio import MakeDisk, export, fence, group, make_target, opened


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
        assert initiator.socket.getsockname() not in peers(found.portal, found.port)
        new = export(target, make_disk(generation=2), 1)
        with pytest.raises((LoginError, ConnectionError)):
            initiator.finish()
        assert target.sessions("pc1") == []
    with Initiator(new):
        pass


def test_a_host_that_connected_and_went_silent_keeps_nobody_from_logging_in(
    make_disk: MakeDisk, port: int
) -> None:
    where = {"pc1": IPv4Address("127.0.0.1"), "pc2": IPv4Address("127.0.0.2")}
    with opened(make_target(port, addresses=where)) as target:
        found, other = export(target, make_disk()), export(target, make_disk("pc2"))
        with raw(found) as silent, raw(other) as others:
            time.sleep(0.3)
            fence(target)
            assert silent.socket.getsockname() not in peers(found.portal, port)
            assert others.socket.getsockname() not in peers(found.portal, port)


def test_a_fence_leaves_the_connections_of_other_hosts_alone(
    make_disk: MakeDisk, port: int
) -> None:
    where = {"pc1": IPv4Address("127.0.0.7"), "pc2": IPv4Address("127.0.0.8")}
    with opened(make_target(port, addresses=where)) as target:
        found, other = export(target, make_disk()), export(target, make_disk("pc2"))
        # A portal takes one first PDU after the other: nobody may connect and say nothing
        with Initiator(other) as session, closing(RawInitiator(other)) as sibling:
            sibling.socket.bind(("127.0.0.8", 0))
            sibling.connect()
            sibling.security()
            own = RawInitiator(found)
            own.connect()
            own.security()
            target._writer.change(lambda: None, "nothing", Deadline(5))
            try:
                target.fence("pc1", deadline=Deadline(4))
            except DeadlineExceededError:
                own.close()  # from the address of pc2's session: it was left alone
            session.read(0)
            sibling.finish()
            assert len(target.sessions("pc2")) == 1
            own.close()
        fence(target)


def test_a_fence_that_can_not_be_proved_is_none(
    target: LioTarget, make_disk: MakeDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, other = export(target, make_disk()), export(target, make_disk("pc2"))
    with raw(found) as initiator:
        initiator.security()
        with monkeypatch.context() as patch:
            patch.setattr(target, "_cut", lambda *_args, **_more: None)
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

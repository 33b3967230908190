"""Connections that do not log in. The kernel lets nobody else in meanwhile, at that portal."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import ExitStack

import pytest

from cuckoo_zfsiscsi.disk.target import lio_door
from cuckoo_zfsiscsi.disk.target.lio import LioTarget
from tests.iscsi import Initiator, LoginError, raw
from tests.waiting import wait
from tests.zfs.target.lio import MakeDisk, export, fence, first_block


def test_silent_connections_are_ended(
    target: LioTarget, make_disk: MakeDisk, caplog: pytest.LogCaptureFixture
) -> None:
    disk = make_disk()
    found = export(target, disk)
    with ExitStack() as stack:
        for source in ("127.0.0.2", "127.0.0.2", "127.0.0.9"):
            place = (found.portal, found.port)
            stack.enter_context(socket.create_connection(place, 5.0, source_address=(source, 0)))
        with Initiator(found) as guest:  # gives up after 10 s
            assert guest.read(0) == first_block(disk)
    assert "3 connections to the disk of pc1, from 127.0.0.2, 127.0.0.9, did not log" in caplog.text


def test_who_says_something_now_and_then_is_ended_too(
    target: LioTarget, make_disk: MakeDisk
) -> None:
    found = export(target, make_disk())
    with socket.create_connection((found.portal, found.port)) as wire:

        def is_over() -> bool:
            try:
                wire.send(b"C")
            except ConnectionError:
                return True
            return False

        wait(is_over, what="it is never ended", pause=0.5)  # 48 bytes would take 24 s
    with Initiator(found):
        pass


def test_a_session_may_be_silent(target: LioTarget, make_disk: MakeDisk) -> None:
    disk = make_disk()
    with Initiator(export(target, disk)) as guest:
        session = target.sessions("pc1")
        time.sleep(lio_door.PATIENCE + 4 * lio_door.PERIOD)
        assert guest.read(0) == first_block(disk)
        assert target.sessions("pc1") == session


def test_a_session_stays_when_others_behind_it_do_not_log_in(
    target: LioTarget, make_disk: MakeDisk
) -> None:
    disk = make_disk()
    found = export(target, disk)
    with raw(found) as behind:
        with Initiator(found) as guest:  # it comes later, and is let in: who is silent is ended
            assert target.sessions("pc1")
            wire = socket.create_connection((found.portal, found.port))
            with wire:
                wire.settimeout(4 * lio_door.PATIENCE)
                with pytest.raises(ConnectionResetError):
                    wire.recv(1)
            assert guest.read(0) == first_block(disk)
        with pytest.raises((ConnectionError, LoginError)):
            behind.begin()


def test_every_session_is_told(target: LioTarget, make_disk: MakeDisk) -> None:
    found = export(target, make_disk())
    numbers = []
    with ExitStack() as stack:
        for isid in (1, 2, 3):
            guest = stack.enter_context(raw(found, isid))
            guest.security()
            guest.finish()
            sessions = target.sessions("pc1")
            numbers.append([session.number for session in sessions])
            assert {session.address for session in sessions} == {"127.0.0.1"}
        assert [len(seen) for seen in numbers] == [1, 2, 3]
        assert numbers[1][:1] == numbers[0]
        assert numbers[2][:2] == numbers[1]
        assert len(set(numbers[2])) == 3
    wait(lambda: not target.sessions("pc1"), what="they do not end")


def test_sessions_that_nobody_has_looked_at_are_told(
    target: LioTarget, make_disk: MakeDisk
) -> None:
    found = export(target, make_disk())
    with raw(found, 1) as one, raw(found, 2) as two, raw(found, 3) as silent:
        for guest in (one, two):
            guest.security()
            guest.finish()
        first = target.sessions("pc1")
        assert len({session.number for session in first}) == 2, silent
        assert target.sessions("pc1") == first


def test_too_many_sessions(
    target: LioTarget, make_disk: MakeDisk, caplog: pytest.LogCaptureFixture
) -> None:
    found = export(target, make_disk())
    with ExitStack() as stack:
        for isid in range(lio_door.MOST):
            guest = stack.enter_context(raw(found, isid))
            guest.security()
            guest.finish()
        time.sleep(4 * lio_door.PERIOD)
        with Initiator(found) as one_more:
            wait(lambda: "it can't log in any more" in caplog.text, what="nobody minds")
            one_more.read(0)
            with pytest.raises(LoginError, match=r"0201|[Aa]uthentication"):
                Initiator(found)
        assert len(target.sessions("pc1")) >= lio_door.MOST
        fence(target)
        assert target.sessions("pc1") == []
    with Initiator(export(target, make_disk(generation=2), 1)):
        pass
    assert caplog.text.count("it can't log in any more") == 1
    assert threading.active_count() < 20

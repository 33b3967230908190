"""Connections that say nothing. The kernel lets nobody else in for 15 s, for each of them."""

from __future__ import annotations

import socket
import time
from contextlib import ExitStack
from ipaddress import IPv4Address

import pytest

from cuckoo_zfsiscsi.disk.target import lio_door
from tests.iscsi import Initiator
from tests.zfs.target.lio import MakeDisk, export, first_block, make_target, opened

HOSTS = {"pc1": IPv4Address("127.0.0.1"), "pc2": IPv4Address("127.0.0.2")}


def test_silent_connections_keep_nobody_out(
    make_disk: MakeDisk, port: int, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(make_target(port, addresses=HOSTS)) as target, ExitStack() as stack:
        disk = make_disk()
        found = export(target, disk)
        for source in ("127.0.0.2", "127.0.0.2", "127.0.0.9"):
            wire = socket.create_connection((found.portal, port), 5.0, source_address=(source, 0))
            stack.enter_context(wire)
        with Initiator(found) as guest:  # gives up after 10 s
            assert guest.read(0) == first_block(disk)
    assert "127.0.0.2 (pc2) holds a connection to 127.0.0.1 and says nothing" in caplog.text
    assert "127.0.0.9 (no host of ours)" in caplog.text


def test_a_session_may_be_silent(make_disk: MakeDisk, port: int) -> None:
    with opened(make_target(port, addresses=HOSTS)) as target:
        disk = make_disk()
        with Initiator(export(target, disk)) as guest:
            session = target.sessions("pc1")
            time.sleep(lio_door.PATIENCE + 2 * lio_door.PERIOD)
            assert guest.read(0) == first_block(disk)
            assert target.sessions("pc1") == session

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from cuckoo_zfsiscsi.service import serve
from cuckoo_zfsiscsi.service.fleet import Fleet
from cuckoo_zfsiscsi.service.notify import Notifier
from tests.waiting import HANG


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    """Listen as systemd does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(HANG)
        yield listener


def heard(listener: socket.socket) -> list[str]:
    return listener.recv(4096).decode().split("\n")


def test_says_it(systemd: socket.socket) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": systemd.getsockname()})
    notifier.ready("serving 2 hosts")
    assert heard(systemd) == ["READY=1", "STATUS=serving 2 hosts"]
    notifier.alive()
    assert heard(systemd) == ["WATCHDOG=1"]
    notifier.stopping(90.5)
    assert heard(systemd) == ["STOPPING=1", "EXTEND_TIMEOUT_USEC=90500000"]


def test_abstract_socket() -> None:
    name = f"zfsiscsi-{secrets.token_hex(8)}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(f"\0{name}")
        listener.settimeout(HANG)
        Notifier({"NOTIFY_SOCKET": f"@{name}"}).alive()
        assert heard(listener) == ["WATCHDOG=1"]


def test_children_do_not_inherit_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"):
        monkeypatch.setenv(name, "1")
    Notifier()
    assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} & os.environ.keys()


@pytest.mark.parametrize("address", ["", "vsock:2:1234", "relative"])
def test_nobody_to_tell(address: str) -> None:
    Notifier({"NOTIFY_SOCKET": address} if address else {}).ready("")


def test_systemd_is_gone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "none")}).alive()
    assert "systemd can't be told WATCHDOG=1: [Errno 2]" in caplog.text


class Mended:
    """A fleet whose second mending fails."""

    def __init__(self) -> None:
        self.rounds = 0

    def mend(self) -> None:
        self.rounds += 1
        if self.rounds == 2:
            raise RuntimeError("the second round")


def test_watchdog_is_put_off_by_good_rounds_alone(
    systemd: socket.socket, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(serve, "MEND_EVERY", 0.01)
    fleet = Mended()
    notifier = Notifier({"NOTIFY_SOCKET": systemd.getsockname()})

    async def run() -> None:
        mending = asyncio.create_task(serve._mend(cast("Fleet", fleet), notifier, lambda: None))
        while fleet.rounds < 5:
            await asyncio.sleep(0.01)
        mending.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await mending

    with caplog.at_level(logging.ERROR):
        asyncio.run(run())
    systemd.setblocking(False)
    said = 0
    with contextlib.suppress(BlockingIOError):
        while heard(systemd) == ["WATCHDOG=1"]:
            said += 1
    # One at the start; the last round's may have been cut off by the end.
    assert said in (fleet.rounds - 1, fleet.rounds)
    assert "the second round" in caplog.text

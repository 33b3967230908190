"""What systemd hears of a real service."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

import pytest

from tests.faults.patience import SERVICE
from tests.faults.small_lab import SmallLab
from tests.waiting import HANG


def test_ready_alive_stopping(
    lab: SmallLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(HANG)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        lab.start_interpreter()
        assert systemd.recv(4096) == b"READY=1\nSTATUS=serving 1 hosts"
        for _ in range(2):  # at once, and from the first round
            assert systemd.recv(4096) == b"WATCHDOG=1"
        pid = int((tmp_path / "run" / "dnsmasq.pid").read_text())
        assert b"NOTIFY_SOCKET" not in Path(f"/proc/{pid}/environ").read_bytes()
        assert lab.kill(signal.SIGTERM) == 0
        said = b"WATCHDOG=1"
        while said == b"WATCHDOG=1":
            said = systemd.recv(4096)
        most = (SERVICE + 60) * 1e6  # stop_timeout, and what all else takes at most
        assert said == f"STOPPING=1\nEXTEND_TIMEOUT_USEC={most:.0f}".encode()

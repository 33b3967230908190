"""Memory, time, space."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.doctor.clock import check_clock
from cuckoo_zfsiscsi.doctor.memory import check_memory
from cuckoo_zfsiscsi.doctor.space import check_space
from tests.doctor.server import Server


def arc(server: Server, limit: float) -> None:
    server.write("proc/spl/kstat/zfs/arcstats", f"c_max 4 {int(limit)}\n")


def test_little_memory(server: Server) -> None:
    server.write("proc/meminfo", "MemTotal: 2000000 kB\n")
    arc(server, 1e9)
    one = server.problem(check_memory)
    assert (one.level, one.what) == ("warning", "2.0 GB in all: little for a storage server")


@pytest.mark.parametrize(
    ("limit", "level", "what"),
    [(0.5e9, "warning", "every boot reads"), (33e9, "info", "leaves little for the rest")],
)
def test_arc(server: Server, limit: float, level: str, what: str) -> None:
    arc(server, limit)
    one = server.problem(check_memory)
    assert (one.level, one.where) == (level, "ARC")
    assert what in one.what
    assert "zfs_arc_max=25187337216" in one.fix  # three quarters


def test_no_zfs_yet(server: Server) -> None:
    (server.root / "proc/spl/kstat/zfs/arcstats").unlink()
    assert [finding.level for finding in server.find(check_memory)] == ["ok"]


def test_clock(server: Server) -> None:
    server.synchronised = False
    one = server.problem(check_clock)
    assert (one.level, one.where) == ("warning", "time")


def test_run_dir(server: Server) -> None:
    run_dir = server.root / "run/zfsiscsi"
    (run_dir / "dnsmasq.pid").unlink()
    run_dir.rmdir()
    assert server.problem(check_space).level == "info"
    run_dir.touch()
    assert server.problem(check_space).what == "is not a folder"


@pytest.mark.parametrize(("free", "level"), [(50e6, "error"), (500e6, "warning"), (5e9, "ok")])
def test_var(
    server: Server, free: float, level: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real = os.statvfs(tmp_path)

    class Filled:
        f_frsize = 1
        f_bavail = free

    def statvfs(path: Path) -> object:
        return Filled if path.name == "var" else real

    monkeypatch.setattr(os, "statvfs", statvfs)
    (var,) = [finding for finding in server.find(check_space) if finding.where == "/var"]
    assert var.level == level


def test_no_var(server: Server) -> None:
    (server.root / "var/log/syslog").unlink()
    (server.root / "var/log").rmdir()
    (server.root / "var").rmdir()
    assert server.problem(check_space).what == "can't be looked at: No such file or directory"

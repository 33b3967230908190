"""What is in deploy/guest: the files that prepare an image."""

from __future__ import annotations

import configparser
import os
import subprocess
from pathlib import Path

import pytest

from tests.waiting import HANG

GUEST = Path(__file__).parents[2] / "deploy/guest"
CAPE, SERVICE = "10.99.0.2", "10.99.0.1"


def prepare(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", str(GUEST / "prepare-linux"), *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=HANG,
        env={**os.environ, "ROOT": str(root)},
    )


@pytest.fixture
def agent(tmp_path: Path) -> Path:
    path = tmp_path / "agent.py"
    path.write_text("# agent\n")
    return path


def test_linux_files(tmp_path: Path, agent: Path) -> None:
    root = tmp_path / "root"
    for _ in range(2):
        done = prepare(root, CAPE, SERVICE, str(agent))
        assert done.returncode == 0, done.stderr
    written = sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
    assert written == [
        "etc/apt/apt.conf.d/99-analysis-host",
        "etc/iscsi/iscsi.initramfs",
        "etc/nftables.conf",
        "etc/systemd/system/cape-agent.service",
        "etc/systemd/system/open-iscsi.service.d/keep.conf",
        "opt/cape/agent.py",
    ]
    assert (root / "etc/iscsi/iscsi.initramfs").read_text() == "ISCSI_AUTO=true\n"
    assert (root / "opt/cape/agent.py").read_text() == "# agent\n"
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(root / "etc/systemd/system/cape-agent.service")
    assert unit["Service"]["ExecStart"] == "/usr/bin/python3 /opt/cape/agent.py"
    rule = (root / "etc/nftables.conf").read_text()
    assert f"tcp dport {{ 135, 8000 }} ip saddr != {{ {CAPE}, {SERVICE} }} drop" in rule


@pytest.mark.parametrize(("words", "code"), [((), 2), ((CAPE, SERVICE), 2)])
def test_linux_usage(tmp_path: Path, words: tuple[str, ...], code: int) -> None:
    done = prepare(tmp_path, *words)
    assert done.returncode == code
    assert "usage" in done.stderr


def test_linux_without_an_agent(tmp_path: Path) -> None:
    done = prepare(tmp_path / "root", CAPE, SERVICE, str(tmp_path / "none"))
    assert done.returncode == 1
    assert "error: there is no" in done.stderr
    assert "fix: " in done.stderr
    assert not (tmp_path / "root").exists()


def test_windows_file_keeps_to_plain_lines() -> None:
    """No label that cmd would look for in vain, no quote that stays open."""
    text = (GUEST / "prepare.cmd").read_text()
    assert text.isascii()
    assert text.startswith("@echo off\n")
    for line in text.splitlines():
        assert line.replace('\\"', "").count('"') % 2 == 0, line
        assert "goto" not in line
    for port in (135, 8000):
        assert f"localport={port} remoteip=%~1,%~2" in text

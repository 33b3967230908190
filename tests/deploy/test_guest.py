"""What is in deploy/guest: the files that prepare an image. Nothing of Windows' is run."""

from __future__ import annotations

import configparser
import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.test_unit import VERIFY
from tests.readiness.peers import Network
from tests.waiting import HANG

GUEST = Path(__file__).parents[2] / "deploy/guest"
CAPE, SERVICE = "10.99.0.2", "10.99.0.1"
WAY = "etc/systemd/system/default-route.service"


@pytest.fixture
def network() -> Iterator[Network]:
    one = Network()
    yield one
    one.delete()


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


def lines(unit: Path, key: str) -> list[str]:
    return re.findall(rf"^{key}=(.*)$", unit.read_text(), re.MULTILINE)


@pytest.mark.parametrize(("words", "dns"), [((CAPE,), CAPE), ((CAPE, "9.9.9.9"), "9.9.9.9")])
def test_linux_default_route(
    tmp_path: Path, agent: Path, network: Network, words: tuple[str, ...], dns: str
) -> None:
    """What the unit starts, in a network of its own and with a /etc of its own."""
    root = tmp_path / "root"
    done = prepare(root, CAPE, SERVICE, str(agent), *words)
    assert done.returncode == 0, done.stderr
    seen = subprocess.run([*VERIFY, str(root / WAY)], capture_output=True, text=True, check=False)
    assert (seen.returncode, seen.stderr) == (0, "")
    (root / "etc/resolv.conf").symlink_to("../run/systemd/resolve/stub-resolv.conf")
    begin = network.guest(root / "etc")
    for line in lines(root / WAY, "ExecStart"):
        subprocess.run([*begin, *shlex.split(line)], check=True)
    assert network.routes() == [f"default via {CAPE} dev eth0"]
    assert (root / "etc/resolv.conf").read_text() == f"nameserver {dns}\n"
    assert lines(root / WAY, "Before") == ["cape-agent.service"]
    assert prepare(root, CAPE, SERVICE, str(agent)).returncode == 0
    assert not (root / WAY).exists(), "it stays, though nobody asks for it any more"


@pytest.mark.parametrize("words", [("router",), (CAPE, "9.9.9.9,1.1.1.1"), ("$(reboot)",)])
def test_linux_gateway_that_is_none(tmp_path: Path, agent: Path, words: tuple[str, ...]) -> None:
    done = prepare(tmp_path / "root", CAPE, SERVICE, str(agent), *words)
    assert done.returncode == 1
    assert "error: " in done.stderr
    assert "GATEWAY and DNS are IPv4 addresses\nfix: give each as 10.99.0.1\n" in done.stderr
    assert not (tmp_path / "root").exists()


@pytest.mark.parametrize(("words", "code"), [((), 2), ((CAPE, SERVICE), 2), (("1",) * 6, 2)])
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


def test_windows_default_route() -> None:
    """Within what schtasks takes, and without what cmd takes for its own between quotes."""
    text = (GUEST / "prepare.cmd").read_text()
    (line,) = (one for one in text.splitlines() if "/tn default-route /sc" in one)
    assert line.startswith('if not "%~4"=="" schtasks /create /f /tn default-route /sc onstart ')
    run = line.partition(' /tr "')[2].removesuffix('"').replace('\\"', '"')
    longest = "255.255.255.255"
    run = run.replace("%~4", longest).replace("%dns%", longest)
    assert len(run) <= 261
    assert not set(run) & set("|&<>^%!")
    assert run == (
        f'powershell -NoProfile -Command "route add 0.0.0.0 mask 0.0.0.0 {longest}; '
        "foreach ($c in Get-WmiObject Win32_NetworkAdapterConfiguration -Filter IPEnabled=TRUE) "
        f"{{ $c.SetDNSServerSearchOrder('{longest}') }}\""
    )

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.cli import run
from tests.config.sample import edit, read


def render(folder: Path, *words: str, dhcp: str = "dnsmasq") -> int:
    config = read(folder, edit(("[netboot]", f"[netboot]\ndhcp = {dhcp}")))
    return run(["--conf", str(config.path), "netboot", "render", *words])


def test_what_the_service_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert render(tmp_path) == 0
    said = capsys.readouterr()
    assert "dhcp-ignore=tag:!known" in said.out
    assert said.err == ""
    assert render(tmp_path, dhcp="isc") == 0
    assert "deny unknown-clients;" in capsys.readouterr().out


def test_lines_for_another(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert render(tmp_path, "--server", "windows", dhcp="external") == 0
    said = capsys.readouterr()
    assert "Add-DhcpServerv4Reservation" in said.out
    assert said.err == "not checked: this server has no checker\n"
    assert render(tmp_path, "--server", "isc", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["server"], found["unchecked"]) == ("isc", "")
    assert "host pc1 {" in found["text"]


def test_external_needs_a_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert render(tmp_path, dhcp="external") == 1
    assert (
        "fix: zfsiscsi netboot render --server dnsmasq|isc|kea|windows" in capsys.readouterr().err
    )
    assert render(tmp_path, "--server", "floppy") == 2


def test_firewall(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = read(tmp_path, edit())
    assert run(["--conf", str(config.path), "netboot", "firewall"]) == 0
    said = capsys.readouterr()
    assert 'iifname "br-lab" goto from-netboot' in said.out
    assert said.err == ""
    assert run(["--conf", str(config.path), "netboot", "firewall", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["server"], found["unchecked"]) == ("nftables", "")

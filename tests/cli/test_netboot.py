from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.cli import run
from tests.config.sample import edit, read
from tests.netboot.network import inside, make_network


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
    assert 'iifname "br-lab" goto to-netboot' in said.out
    assert said.err == ""
    assert run(["--conf", str(config.path), "netboot", "firewall", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["server"], found["unchecked"]) == ("nftables", "")


def test_the_firewall_is_loaded_and_removed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = read(tmp_path, edit(("[netboot]", "[netboot]\ndns = 9.9.9.9")))
    words = ["--conf", str(config.path), "netboot", "firewall"]
    with make_network(f"zf{os.getpid()}") as net, inside(net.server):
        assert run([*words, "--apply"]) == 0
        said = capsys.readouterr()
        assert said.out == "the firewall guards br-lab; CAPE's rooter may let out pc1, pc2\n"
        assert said.err == ""
        assert "table inet zfsiscsi" in net.run(net.server, "nft list tables")
        net.run(net.server, "ip link set boot0 down")
        net.run(net.server, "ip addr flush dev boot0")
        assert run([*words, "--apply", "--json"]) == 0
        said = capsys.readouterr()
        found = json.loads(said.out)
        assert (found["interfaces"], found["gateway_of"]) == (["br-lab"], ["pc1", "pc2"])
        assert "is its network up?" in said.err
        assert run([*words, "--remove"]) == 0
        assert capsys.readouterr().out == "the firewall is removed\n"
        assert "zfsiscsi" not in net.run(net.server, "nft list ruleset")
    assert run([*words, "--apply", "--remove"]) == 2

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.doctor.nic import check_nic
from tests.doctor.server import Server


def test_portal_is_not_here(server: Server) -> None:
    server.say("ip -json address show", json.dumps([{"ifname": "lo", "addr_info": []}]))
    one = server.problem(check_nic)
    assert (one.level, one.where) == ("error", "[storage] portal = 10.99.0.1")
    assert one.fix.startswith("ip addr add 10.99.0.1/24 dev br-lab")


def test_no_ip_command(server: Server) -> None:
    server.says["ip"] = None
    assert server.problem(check_nic).level == "error"


def test_link_is_down(server: Server) -> None:
    server.write("sys/class/net/eno1/operstate", "down\n")
    one = server.problem(check_nic)
    assert (one.where, one.what) == ("interface eno1", "the link is down")
    assert one.fix == "ip link set eno1 up; is the cable in?"
    server.write("sys/class/net/br-lab/operstate", "lowerlayerdown\n")
    found = [finding.fix for finding in server.find(check_nic) if finding.level == "error"]
    assert found[0] == "ip link set br-lab up"


@pytest.mark.parametrize(
    ("speed", "duplex", "level", "what"),
    [
        ("100", "full", "warning", "runs at 100 Mbit/s"),
        ("1000", "half", "warning", "half duplex"),
        ("-1", "unknown", "info", "does not say its speed"),
    ],
)
def test_speed(server: Server, speed: str, duplex: str, level: str, what: str) -> None:
    server.write("sys/class/net/eno1/speed", speed)
    server.write("sys/class/net/eno1/duplex", duplex)
    one = server.problem(check_nic)
    assert (one.level, one.where) == (level, "interface eno1")
    assert what in one.what
    assert "ethtool eno1" in one.fix


def test_mtus_differ(server: Server) -> None:
    server.write("sys/class/net/br-lab/mtu", "9000\n")
    one = server.problem(check_nic)
    assert (one.level, one.what) == ("warning", "MTUs differ: br-lab 9000, eno1 1500")
    assert one.fix == "ip link set IFACE mtu 1500"
    server.write("sys/class/net/eno1/mtu", "9000\n")
    one = server.problem(check_nic)
    assert (one.level, one.fix) == ("info", "ip link set br-lab mtu 1500")


def test_bond_of_vlan_of_bridge(server: Server) -> None:
    """Every card below is looked at, however deep it is."""
    server.write("sys/class/net/eno1/lower_bond0/mtu", "1500")
    for card, speed in (("eno2", "1000"), ("eno3", "10")):
        server.write(f"sys/class/net/bond0/lower_{card}/mtu", "1500")
        server.write(f"sys/class/net/{card}/speed", speed)
        server.write(f"sys/class/net/{card}/mtu", "1500")
        server.write(f"sys/class/net/{card}/device/vendor", "0x8086")
    assert server.problem(check_nic).where == "interface eno3"


def test_layers_that_go_round(server: Server) -> None:
    server.write("sys/class/net/eno1/lower_br-lab/mtu", "1500")
    assert server.find(check_nic)  # it ends


def test_virtual(server: Server, tmp_path: Path) -> None:
    (server.root / "sys/class/net/eno1/device/vendor").unlink()
    (server.root / "sys/class/net/eno1/device").rmdir()
    assert any("virtual" in finding.what for finding in server.find(check_nic))

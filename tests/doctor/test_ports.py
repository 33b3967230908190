from __future__ import annotations

from pathlib import Path

import pytest

from cuckoo_zfsiscsi.doctor.ports import ANY, check_ports, needs, parse
from tests.doctor.server import SS, Server

LINE = '{kind} LISTEN 0 128 {local} 0.0.0.0:* users:(("{name}",pid={pid},fd=3))\n'


def listen(server: Server, local: str, kind: str = "tcp", name: str = "nginx") -> None:
    server.say("ss", SS + LINE.format(kind=kind, local=local, name=name, pid=700))


@pytest.mark.parametrize(
    ("kind", "local", "key"),
    [
        ("tcp", "0.0.0.0:3271", "[pc1] portal_port"),
        ("tcp", "*:8471", "[netboot] boot_port"),
        ("tcp", "[::]:8470", "[zfsiscsi] service"),
        ("tcp", "127.0.0.1:8470", "[zfsiscsi] service"),
        ("udp", "0.0.0.0:69", "TFTP"),
        ("udp", "0.0.0.0%br-lab:67", "DHCP"),
    ],
)
def test_taken(server: Server, kind: str, local: str, key: str) -> None:
    listen(server, local, kind)
    one = server.problem(check_ports)
    assert one.level == "error"
    assert one.where.startswith(f"{key}: {kind} ")
    assert one.what == "nginx, process 700 has the port"
    assert one.fix.startswith("ss -lnptu")


@pytest.mark.parametrize(
    ("kind", "local"),
    [
        ("tcp", "10.99.0.2:3271"),
        ("udp", "10.99.0.1:3271"),
        ("udp", "0.0.0.0%virbr0:67"),
        ("tcp", "[fe80::1]:8471"),
    ],
)
def test_not_in_the_way(server: Server, kind: str, local: str) -> None:
    listen(server, local, kind)
    assert [finding.level for finding in server.find(check_ports)] == ["ok"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("proc/700/cgroup", "0::/system.slice/zfsiscsi.service\n"),
        ("proc/700/cmdline", "/opt/zfsiscsi/bin/python\0/opt/zfsiscsi/bin/zfsiscsi\0serve\0"),
        ("run/zfsiscsi/tgtd-pc1.pid", "700\n"),
    ],
    ids=["unit", "by-hand", "child"],
)
def test_ours(server: Server, name: str, text: str) -> None:
    listen(server, "10.99.0.1:3271")
    server.write(name, text)
    assert [finding.level for finding in server.find(check_ports)] == ["ok"]


def target(server: Server, name: str) -> None:
    """Let the kernel listen."""
    server.say("ss", SS + "tcp LISTEN 0 256 10.99.0.1:3271 0.0.0.0:*\n")
    server.write(f"sys/kernel/config/target/iscsi/{name}/tpgt_1/np/10.99.0.1:3271/iser", "0\n")


def test_our_targets(server: Server) -> None:
    target(server, "iqn.2026-01.org.example:lab:pc1")
    assert [finding.level for finding in server.find(check_ports)] == ["ok"]


def test_targets_of_somebody_else(server: Server) -> None:
    target(server, "iqn.2003-01.org.linux-iscsi.nas")
    one = server.problem(check_ports)
    assert one.level == "info"
    assert "iqn.2003-01.org.linux-iscsi.nas" in one.what


def test_the_kernel_without_a_target(server: Server) -> None:
    server.say("ss", "tcp LISTEN 0 256 10.99.0.1:3271 0.0.0.0:*\n")
    assert server.problem(check_ports).what == "somebody has the port"


def test_socket_needs_no_port(tmp_path: Path) -> None:
    server = Server(tmp_path, ("token_file", "service = unix:///run/zfsiscsi/api.sock\ntoken_file"))
    listen(server, "127.0.0.1:8470")
    assert [finding.level for finding in server.find(check_ports)] == ["ok"]


def test_dhcp_is_the_site_s_own(server: Server) -> None:
    external = server.config.netboot.model_copy(update={"dhcp": "external"})
    config = server.config.model_copy(update={"netboot": external})
    assert [(need.kind, need.port) for need in needs(config) if need.kind == "udp"] == [("udp", 69)]


def test_no_ss(server: Server) -> None:
    server.says["ss"] = None
    assert server.problem(check_ports).fix == "apt install iproute2"


def test_parse() -> None:
    first, *_, last = parse(SS + "nonsense\n")
    assert (first.kind, first.interface, first.port) == ("udp", "br-lab", 67)
    assert first.address in ANY
    assert (last.address, last.port, last.programs) == ("::", 22, (("sshd", 600),))

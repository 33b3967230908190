from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.check import Finding, server
from cuckoo_zfsiscsi.check.server import check_server
from tests.config.sample import edit, read
from tests.netboot.network import Network, inside, make_network


@pytest.fixture(scope="module")
def net() -> Iterator[Network]:
    with make_network(f"check{os.getpid()}") as network:
        yield network


@pytest.fixture
def changes(tmp_path: Path) -> list[tuple[str, str]]:
    """Make the sample fit the test's network and folder."""
    (tmp_path / "token").write_text("0123456789abcdef")
    (tmp_path / "token").chmod(0o600)
    return [
        ("/etc/zfsiscsi/token", f"{tmp_path}/token"),
        ("[storage]", f"[storage]\npath = {tmp_path}"),
        ("[netboot]\ninterface = br-lab", "[netboot]\ninterface = boot0"),
    ]


def inside_run(net: Network, command: str) -> None:
    with inside(net.server):
        subprocess.run(command.split(), check=True)


def look(net: Network, folder: Path, *changes: tuple[str, str]) -> list[Finding]:
    config = read(folder, edit(*changes))
    with inside(net.server):
        return list(check_server(config))


def problems(found: list[Finding]) -> list[Finding]:
    assert all(finding.fix for finding in found if finding.level != "ok")
    return [finding for finding in found if finding.level in ("warning", "error")]


def test_all_is_well(net: Network, tmp_path: Path, changes: list[tuple[str, str]]) -> None:
    found = look(net, tmp_path, *changes)
    assert problems(found) == []
    (info,) = [finding for finding in found if finding.level == "info"]
    assert "ip -6 addr add fd99:0:0:1::1/64 dev boot0" in info.fix
    inside_run(net, "ip -6 addr add fd99:0:0:1::1/64 dev boot0 nodad")
    found = look(net, tmp_path, *changes)
    inside_run(net, "ip -6 addr del fd99:0:0:1::1/64 dev boot0")
    assert {finding.level for finding in found} == {"ok"}
    said = " ".join(map(str, found))
    for word in ("tgtd", "dnsmasq", "qemu-img", "ipmitool", "10.99.0.1", "undionly.kpxe", "GB"):
        assert word in said


def test_network(net: Network, tmp_path: Path, changes: list[tuple[str, str]]) -> None:
    moved = ("address = 10.99.0.1/24", "address = 10.99.0.2/24")
    (finding,) = problems(look(net, tmp_path, *changes, moved))
    assert finding.fix == "ip addr add 10.99.0.2/24 dev boot0"
    (finding,) = problems(look(net, tmp_path, *changes[:2]))
    assert (finding.where, finding.what) == (
        "[netboot] interface = br-lab",
        "there is no such interface",
    )


def test_interface_that_is_down(
    net: Network, tmp_path: Path, changes: list[tuple[str, str]]
) -> None:
    inside_run(net, "ip link add idle0 type veth peer idle1")
    inside_run(net, "ip addr add 10.99.0.1/24 dev idle0")
    idle = ("interface = br-lab\naddress", "interface = idle0\naddress")
    (finding,) = problems(look(net, tmp_path, *changes[:2], idle))
    assert finding.fix == "ip link set idle0 up"


def test_boot_files(net: Network, tmp_path: Path, changes: list[tuple[str, str]]) -> None:
    root = tmp_path / "tftp"
    root.mkdir()
    (root / "ipxe.efi").touch()
    found = look(
        net, tmp_path, *changes,
        ("address =", f"tftp_root = {root}\naddress ="),
        ("arch = x64", "arch = x64\nboot_file = snponly.efi"),
        ("platform = linux", "platform = linux\nfirmware = uefi"),
    )  # fmt: skip
    (finding,) = problems(found)
    assert finding.level == "error"
    assert finding.what == "there is no snponly.efi, needed by pc1"
    assert any("ipxe.efi is there, for pc2" in finding.what for finding in found)


@pytest.mark.parametrize(
    ("content", "mode", "level", "what"),
    [
        ("fedcba9876543210", 0o644, "error", "open to others"),
        ("", 0o600, "error", "one line"),
        ("s3same", 0o600, "warning", "shorter"),
    ],
    ids=["open", "empty", "weak"],  # not the content: it would be part of the folder's name
)
def test_token(
    net: Network,
    tmp_path: Path,
    changes: list[tuple[str, str]],
    content: str,
    mode: int,
    level: str,
    what: str,
) -> None:
    (tmp_path / "token").write_text(content)
    (tmp_path / "token").chmod(mode)
    (finding,) = problems(look(net, tmp_path, *changes))
    assert (finding.level, finding.where) == (level, "[zfsiscsi] token_file")
    assert what in finding.what
    assert "[zfsiscsi]" not in finding.what
    assert content == "" or content not in str(finding)


def test_no_token(net: Network, tmp_path: Path, changes: list[tuple[str, str]]) -> None:
    socket = ("token_file = /etc/zfsiscsi/token", "service = unix:///run/zfsiscsi/api.sock")
    found = look(net, tmp_path, socket, *changes[1:])
    assert problems(found) == []


def test_store_path(net: Network, tmp_path: Path, changes: list[tuple[str, str]]) -> None:
    changes[1] = ("[storage]", f"[storage]\npath = {tmp_path}/none")
    (finding,) = problems(look(net, tmp_path, *changes))
    assert finding.fix == f"install -d -m 700 {tmp_path}/none"
    changes[1] = ("[storage]", f"[storage]\npath = {tmp_path}/fixed")
    (tmp_path / "fixed").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "none", tmp_path / "fixed"], check=True)
    try:
        (finding,) = problems(look(net, tmp_path, *changes))
    finally:
        subprocess.run(["umount", tmp_path / "fixed"], check=True)
    assert "can't be written" in finding.what


def test_programs(
    net: Network,
    tmp_path: Path,
    changes: list[tuple[str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    empty = tmp_path / "bin"
    empty.mkdir()
    monkeypatch.setenv("PATH", str(empty))
    monkeypatch.setattr("cuckoo_zfsiscsi.check.server._SYSTEM", str(empty))
    found = problems(look(net, tmp_path, *changes))
    fixes = {finding.where: finding.fix for finding in found if finding.what == "is not installed"}
    assert fixes == {
        "bwrap": "apt install bubblewrap",
        "conntrack": "apt install conntrack",
        "dnsmasq": "apt install dnsmasq-base",
        "ip": "apt install iproute2",
        "ipmitool": "apt install ipmitool",
        "qemu-img": "apt install qemu-utils",
        "setpriv": "apt install util-linux",
        "tgtd": "apt install tgt",
    }


def test_program_of_a_gateway(
    net: Network,
    tmp_path: Path,
    changes: list[tuple[str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = server.find_program
    monkeypatch.setattr(server, "find_program", lambda n: None if n == "conntrack" else real(n))
    for gateway, needed in (("10.99.0.1", True), ("10.99.0.7", False), ("off", False)):
        change = ("[netboot]\n", f"[netboot]\ngateway = {gateway}\n")
        found = [one.where for one in problems(look(net, tmp_path, change, *changes[:2]))]
        assert ("conntrack" in found) is needed


@pytest.mark.parametrize(
    ("dhcp", "program", "package"),
    [("isc", "dhcpd", "isc-dhcp-server"), ("kea", "kea-dhcp4", "kea-dhcp4-server")],
)
def test_program_of_another_dhcp_server(
    net: Network,
    tmp_path: Path,
    changes: list[tuple[str, str]],
    monkeypatch: pytest.MonkeyPatch,
    dhcp: str,
    program: str,
    package: str,
) -> None:
    changes.append(("[netboot]", f"[netboot]\ndhcp = {dhcp}"))
    assert program in " ".join(map(str, look(net, tmp_path, *changes)))
    real = server.find_program
    monkeypatch.setattr(server, "find_program", lambda name: real(name.replace(program, "none")))
    (finding,) = problems(look(net, tmp_path, *changes))
    assert (finding.where, finding.fix) == (program, f"apt install {package}")

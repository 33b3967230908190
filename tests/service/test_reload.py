from __future__ import annotations

from pathlib import Path

import pytest

from cuckoo_zfsiscsi.errors import ServeError
from cuckoo_zfsiscsi.service.reload import check_change
from tests.config.sample import edit, read

ROUTE = "gateway = 10.99.0.2\ndns = 10.99.0.2, 9.9.9.9"
TOLD = ["gateway = 10.99.0.2", "dns = 10.99.0.2, 9.9.9.9"]
VLAN = "[network:v]\ninterface = v\naddress = 10.99.20.1/24\n"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("[netboot]", "[netboot]\ndhcp = kea"), ["[netboot] dhcp = kea"]),
        (("arch = x64", "arch = x64\nboot_file = a.efi"), ["[pc1] boot_file = a.efi"]),
        (("[netboot]", f"[netboot]\n{ROUTE}"), [f"[netboot] {line}" for line in TOLD]),
        (("arch = x64", f"arch = x64\n{ROUTE}"), [f"[pc1] {line}" for line in TOLD]),
        (("arch = x64", "arch = x64\ndns = off"), ["[pc1] dns = off"]),
        (("arch = x64", "# a comment\narch = x64"), []),
    ],
)
def test_taken(tmp_path: Path, change: tuple[str, str], words: list[str]) -> None:
    old = read(tmp_path, edit())
    assert check_change(old, read(tmp_path, edit(change))) == words


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (("machines = pc1,pc2", "machines = pc2,pc1"), r"\[zfsiscsi\] machines = pc2,pc1 has"),
        (("[netboot]", "[netboot]\nboot_port = 9000"), r"\[netboot\] boot_port has"),
        (("arch = x64", "arch = x64\nboot_timeout = 9"), r"\[pc1\] boot_timeout has"),
        (("arch = x64", "arch = x64\nnetwork_via = agent"), r"\[pc1\] network_via has"),
        (("[pc1]", f"{VLAN}[pc1]"), r"which \[network:...\] there are has"),
    ],
)
def test_refused(tmp_path: Path, change: tuple[str, str], what: str) -> None:
    old = read(tmp_path, edit())
    with pytest.raises(ServeError, match=what) as caught:
        check_change(old, read(tmp_path, edit(change)))
    assert "systemctl restart zfsiscsi" in caught.value.fix


def test_another_network_is_refused(tmp_path: Path) -> None:
    old = read(tmp_path, edit(("[pc1]", f"{VLAN}[pc1]")))
    new = read(tmp_path, edit(("[pc1]", f"{VLAN}portal = 10.99.20.2\n[pc1]")))
    assert check_change(old, old) == []
    with pytest.raises(ServeError, match=r"\[network:v\] portal has"):
        check_change(old, new)


def test_a_network_s_gateway_is_taken_and_taken_back(tmp_path: Path) -> None:
    old = read(tmp_path, edit(("[pc1]", f"{VLAN}[pc1]")))
    new = read(tmp_path, edit(("[pc1]", f"{VLAN}gateway = 10.99.20.2\n[pc1]")))
    assert check_change(old, new) == ["[network:v] gateway = 10.99.20.2"]
    assert check_change(new, old) == ["[network:v] gateway = (not set)"]


def test_what_an_agent_is_told_is_not_taken(tmp_path: Path) -> None:
    by_agent = ("arch = x64", "arch = x64\nnetwork_via = agent")
    old = read(tmp_path, edit(by_agent))
    new = read(tmp_path, edit(by_agent, ("[netboot]", f"[netboot]\n{ROUTE}")))
    with pytest.raises(ServeError, match="what pc1's agent is told of gateway and dns has changed"):
        check_change(old, new)
    own = ("arch = x64", "arch = x64\nnetwork_via = agent\ngateway = 10.99.0.3\ndns = off")
    new = read(tmp_path, edit(own, ("[netboot]", f"[netboot]\n{ROUTE}")))
    assert check_change(read(tmp_path, edit(own)), new) == [f"[netboot] {line}" for line in TOLD]

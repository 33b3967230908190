from __future__ import annotations

from pathlib import Path

import pytest

from cuckoo_zfsiscsi.errors import ServeError
from cuckoo_zfsiscsi.service.reload import check_change
from tests.config.sample import edit, read

VLAN = "[network:v]\ninterface = v\naddress = 10.99.20.1/24\n"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("[netboot]", "[netboot]\ndhcp = kea"), ["[netboot] dhcp = kea"]),
        (("arch = x64", "arch = x64\nboot_file = a.efi"), ["[pc1] boot_file = a.efi"]),
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

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.disk.store.server import Server

ONE = Server("5f3a", "store1", "11111111-1111", frozenset({"52:54:00:00:00:01"}))


def build(root: Path, *, product: str = "AAAA-01", card: str = "52:54:00:AA:00:01") -> Path:
    """Write what a server has of these files."""
    for name, text in {
        "etc/machine-id": "5f3a\n",
        "sys/class/dmi/id/product_uuid": f"{product}\n",
        "sys/class/net/eth0/address": f"{card}\n",
        "sys/class/net/eth0/addr_assign_type": "0\n",
        "sys/class/net/eth0/device/vendor": "0x1af4\n",
        "sys/class/net/br-lab/address": "52:54:00:bb:00:01\n",
        "sys/class/net/br-lab/addr_assign_type": "3\n",
        "sys/class/net/vlan20/address": f"{card}\n",
        "sys/class/net/vlan20/addr_assign_type": "2\n",
    }.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_what_a_server_is_known_by(tmp_path: Path) -> None:
    found = Server.here(build(tmp_path))
    assert found.machine == "5f3a"
    assert found.product == "aaaa-01"
    assert found.cards == frozenset({"52:54:00:aa:00:01"})
    assert Server.parse(str(found)) == found


def test_a_server_without_any_of_it_is_known_by_its_name(tmp_path: Path) -> None:
    found = Server.here(tmp_path)
    assert found.machine == found.name != ""
    assert Server.parse(str(found)) == found
    assert not found.differs(found)


def test_a_clone_of_the_template_is_told_apart(tmp_path: Path) -> None:
    original = Server.here(build(tmp_path / "original"))
    clone = Server.here(build(tmp_path / "clone", product="AAAA-02", card="52:54:00:AA:00:02"))
    assert original.machine == clone.machine
    assert "clone" in clone.differs(original)
    assert "clone" in original.differs(clone)


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (ONE, ""),
        (replace(ONE, name="renamed"), ""),
        (replace(ONE, machine="6b"), "another server"),
        (replace(ONE, product="22222222-2222"), "UUID"),
        (replace(ONE, cards=frozenset({"52:54:00:00:00:02"})), "network cards"),
        (replace(ONE, cards=ONE.cards | {"52:54:00:00:00:03"}), ""),  # a card more
        (replace(ONE, product="", cards=frozenset()), ""),  # on record by an earlier version
    ],
)
def test_what_is_the_same_server(other: Server, why: str) -> None:
    assert why in ONE.differs(other)
    assert bool(ONE.differs(other)) == bool(why)


def test_what_an_earlier_version_put_on_record_is_read() -> None:
    assert Server.parse("5f3a store1") == Server("5f3a", "store1")
    assert Server.parse("") is None

"""What iptables-restore(8) is told. What comes of it is in test_isolation.py."""

from __future__ import annotations

from cuckoo_zfsiscsi.netboot.iptables import erase, write

EMPTY = "-P INPUT ACCEPT\n-P FORWARD ACCEPT\n-P OUTPUT ACCEPT\n"
THERE = EMPTY + "-N zfsiscsi\n-A OUTPUT -j DROP\n-A OUTPUT -j zfsiscsi\n-A OUTPUT -j zfsiscsi\n"


def test_it_comes_in_front() -> None:
    text = write(EMPTY, ["br-lab"], is_gateway=True)
    assert text.startswith("*filter\n:FORWARD DROP [0:0]\n:zfsiscsi - [0:0]\n")
    assert text.endswith("-I OUTPUT -j zfsiscsi\nCOMMIT\n")
    assert "-D" not in text
    assert text.count("-o br-lab") == 2


def test_it_takes_the_place_of_the_last() -> None:
    lines = write(THERE, ["br-lab", "vlan20"], is_gateway=False).splitlines()
    assert not any("FORWARD" in line for line in lines)
    assert lines[-4:] == [*2 * ["-D OUTPUT -j zfsiscsi"], "-I OUTPUT -j zfsiscsi", "COMMIT"]


def test_erase() -> None:
    assert erase(EMPTY) == ""
    lines = erase(THERE).splitlines()
    assert lines[1:-1] == [*2 * ["-D OUTPUT -j zfsiscsi"], "-F zfsiscsi", "-X zfsiscsi"]

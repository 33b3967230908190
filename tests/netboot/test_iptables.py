"""What iptables-restore(8) is told. What comes of it is in test_isolation.py."""

from __future__ import annotations

from cuckoo_zfsiscsi.netboot.iptables import erase, write

EMPTY = "-P INPUT ACCEPT\n-P FORWARD ACCEPT\n-P OUTPUT ACCEPT\n"
BRIDGED = "FORWARD -i br-lab -o br-lab -m mark --mark 0x8000000/0x8000000 -j ACCEPT"
THERE = (
    f"{EMPTY}-N zfsiscsi\n-A {BRIDGED}\n-A FORWARD -j DROP\n"
    "-A OUTPUT -j DROP\n-A OUTPUT -j zfsiscsi\n-A OUTPUT -j zfsiscsi\n"
)
OURS = [f"-D {BRIDGED}", *2 * ["-D OUTPUT -j zfsiscsi"]]


def test_it_comes_in_front() -> None:
    text = write(EMPTY, ["br-lab"], is_gateway=True)
    assert text.startswith("*filter\n:FORWARD DROP [0:0]\n:zfsiscsi - [0:0]\n")
    assert text.endswith(f"-I OUTPUT -j zfsiscsi\n-I {BRIDGED}\nCOMMIT\n")
    assert "-D" not in text
    assert text.count("-A zfsiscsi -o br-lab") == 2


def test_it_takes_the_place_of_the_last() -> None:
    lines = write(THERE, ["br-lab", "vlan20"], is_gateway=False).splitlines()
    assert not any(line.startswith(":FORWARD") for line in lines)
    accept = [f"-I {BRIDGED}", f"-I {BRIDGED.replace('br-lab', 'vlan20')}"]
    assert lines[-7:] == [*OURS, "-I OUTPUT -j zfsiscsi", *accept, "COMMIT"]


def test_erase() -> None:
    assert erase(EMPTY) == ""
    lines = erase(THERE).splitlines()
    assert lines[1:-1] == [*OURS, "-F zfsiscsi", "-X zfsiscsi"]

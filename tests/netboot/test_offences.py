from __future__ import annotations

from pathlib import Path

import pytest

from cuckoo_zfsiscsi.netboot import offences
from cuckoo_zfsiscsi.netboot.offences import Offences, cards, neighbour
from tests.clocks import VirtualClock
from tests.netboot.conftest import IP1, MAC1, MAC2, MakeConfig

TABLE = """\
IP address       HW type     Flags       HW address            Mask     Device
10.99.0.11       0x1         0x2         52:54:00:99:00:01     *        boot0
10.99.0.12       0x1         0x0         00:00:00:00:00:00     *        boot0
10.99.20.12      0x1         0x2         52:54:00:99:00:02     *        vlan20
"""


def test_who_has_an_address(tmp_path: Path) -> None:
    (tmp_path / "arp").write_text(TABLE)
    asked = ["10.99.0.11", "10.99.0.12", "10.99.0.1"]
    assert [neighbour(address, tmp_path / "arp") for address in asked] == [MAC1, "", ""]
    assert neighbour("10.99.0.11", tmp_path / "none") == ""


def test_who_was_heard_on_a_card(tmp_path: Path) -> None:
    (tmp_path / "arp").write_text(TABLE)
    assert cards("boot0", tmp_path / "arp") == {MAC1}
    assert cards("vlan20", tmp_path / "arp") == {MAC2}
    assert cards("boot", tmp_path / "arp") == cards("boot0", tmp_path / "none") == set()


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


def test_a_guest_cant_fill_the_log(
    make_config: MakeConfig, caplog: pytest.LogCaptureFixture, clock: VirtualClock
) -> None:
    seen = Offences(make_config().hosts, clock)
    for number in range(1000):
        seen.tell(IP1, f"does {number}")
    assert len(caplog.messages) == offences.LINES
    assert caplog.messages[0] == f"pc1 ({IP1}) does 0"
    clock.sleep(offences.PERIOD)
    seen.tell(IP1, "does one more")
    assert len(caplog.messages) == offences.LINES
    clock.sleep(0.1)
    seen.tell("10.99.0.77", "does it, too")
    assert caplog.messages[-2:] == [
        f"pc1 ({IP1}): {1001 - offences.LINES} more of this",
        "no host of ours (10.99.0.77) does it, too",
    ]


def test_floods(
    make_config: MakeConfig, caplog: pytest.LogCaptureFixture, clock: VirtualClock
) -> None:
    seen = Offences(make_config().hosts, clock)
    for _ in range(offences.FLOOD - 1):
        seen.count_dhcp(MAC1, MAC1)
        seen.count_dhcp(MAC2, MAC2)
    assert caplog.messages == []
    seen.count_dhcp(MAC2, MAC2)
    assert caplog.messages == [f"pc2 ({MAC2}) floods DHCP: 60 requests in 10 s"]
    for number in range(2 * offences.FLOOD):
        seen.count_dhcp(MAC2, f"02:00:00:00:00:{number:02x}")
    assert caplog.messages[1:] == [
        f"pc2 ({MAC2}) floods DHCP under made-up addresses: 60 requests in 10 s"
    ]


def test_a_flood_of_strangers_is_one(
    make_config: MakeConfig, caplog: pytest.LogCaptureFixture, clock: VirtualClock
) -> None:
    """Who makes up its own address too can't be named, but the flood is seen."""
    seen = Offences(make_config().hosts, clock)
    for number in range(offences.FLOOD):
        seen.count_dhcp(f"02:00:00:00:00:{number:02x}", f"02:00:00:00:00:{number:02x}")
    assert caplog.messages == [
        "no host of ours (02:00:00:00:00:3b) floods DHCP: 60 requests in 10 s"
    ]


def test_a_slow_one_is_none(
    make_config: MakeConfig, caplog: pytest.LogCaptureFixture, clock: VirtualClock
) -> None:
    seen = Offences(make_config().hosts, clock)
    for _ in range(2 * offences.FLOOD):
        seen.count_dhcp(MAC1, MAC1)
        clock.sleep(1.1 * offences.IN / offences.FLOOD)
    assert caplog.messages == []

from __future__ import annotations

from pathlib import Path

import pytest

from cuckoo_zfsiscsi.netboot import lines, offences
from cuckoo_zfsiscsi.netboot.offences import Neighbours, Offences, cards, neighbour
from tests.clocks import VirtualClock
from tests.netboot.conftest import IP1, MAC1, MAC2, MakeConfig

TABLE = """\
IP address       HW type     Flags       HW address            Mask     Device
10.99.0.11       0x1         0x2         52:54:00:99:00:01     *        boot0
10.99.0.12       0x1         0x0         00:00:00:00:00:00     *        boot0
10.99.0.13       0x1         0x2         52:54:00:99:00:66     *        vlan20
10.99.0.13       0x1         0x2         52:54:00:99:00:03     *        boot0
10.99.20.12      0x1         0x2         52:54:00:99:00:02     *        vlan20
"""


def test_who_has_an_address(tmp_path: Path) -> None:
    (tmp_path / "arp").write_text(TABLE)
    asked = ["10.99.0.11", "10.99.0.12", "10.99.0.1"]
    assert [neighbour(address, tmp_path / "arp") for address in asked] == [MAC1, "", ""]
    assert neighbour("10.99.0.11", tmp_path / "none") == ""


def test_a_guest_of_another_network_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It tells the server there that it has the address: then the host would get no script."""
    (tmp_path / "arp").write_text(TABLE)
    monkeypatch.setattr(offences.neighbour, "__defaults__", (tmp_path / "arp", ""))
    cards = Neighbours({"10.99.0.13": "boot0", "10.99.0.12": "boot0"})
    asked = ["10.99.0.13", "10.99.0.12", "10.99.0.11", "10.99.0.1"]
    assert [cards(address) for address in asked] == ["52:54:00:99:00:03", "", MAC1, ""]
    assert Neighbours({"10.99.0.13": "boot1"})("10.99.0.13") == ""


def test_who_was_heard_on_a_card(tmp_path: Path) -> None:
    (tmp_path / "arp").write_text(TABLE)
    assert cards("boot0", tmp_path / "arp") == {MAC1, "52:54:00:99:00:03"}
    assert cards("vlan20", tmp_path / "arp") == {MAC2, "52:54:00:99:00:66"}
    assert cards("boot", tmp_path / "arp") == cards("boot0", tmp_path / "none") == set()


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


def test_a_guest_cant_fill_the_log(
    make_config: MakeConfig, caplog: pytest.LogCaptureFixture, clock: VirtualClock
) -> None:
    seen = Offences(make_config().hosts, clock)
    for number in range(1000):
        seen.tell(IP1, f"asks for {str(number)!r}")
    assert len(caplog.messages) == offences.LINES
    assert caplog.messages[0] == f"pc1 ({IP1}) asks for '0'"
    seen.tell(IP1, "floods")
    assert caplog.messages[offences.LINES :] == [f"pc1 ({IP1}) floods"], "nothing else hides it"
    clock.sleep(lines.PERIOD)
    seen.tell(IP1, "asks for 'one more'")
    assert len(caplog.messages) == offences.LINES + 1
    clock.sleep(0.1)
    seen.tell("10.99.0.77", "does it, too")
    assert caplog.messages[-2:] == [
        f"pc1 asks for ...: {1001 - offences.LINES} more of this",
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


def test_made_up_addresses_fill_no_log(
    make_config: MakeConfig, caplog: pytest.LogCaptureFixture, clock: VirtualClock
) -> None:
    """Strangers have one share, all together; that of a host is its own."""
    seen = Offences(make_config().hosts, clock)
    for number in range(1000):
        seen.tell(f"10.99.{number // 256}.{number % 256}", "does it")
    assert len(caplog.messages) == offences.LINES + 2, "two of these addresses are hosts'"
    seen.tell(IP1, "does it")
    assert caplog.messages[-1] == f"pc1 ({IP1}) does it"

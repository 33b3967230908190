from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.errors import BootRefusedError, UnknownHostError
from cuckoo_zfsiscsi.netboot.boots import Boots, normalize
from tests.clocks import VirtualClock
from tests.netboot.conftest import IP1, IP2, MAC1, MAC2, MakeConfig

Events = list[tuple[str, str, float]]


@pytest.fixture
def events() -> Events:
    return []


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def boots(make_config: MakeConfig, events: Events, clock: VirtualClock) -> Boots:
    return Boots(make_config().hosts, lambda *event: events.append(event), clock=clock)


def test_armed_host_gets_its_script_as_often_as_it_asks(
    boots: Boots, events: Events, clock: VirtualClock
) -> None:
    boots.arm("pc1", "one")
    clock.sleep(5.0)
    asked = clock.monotonic()
    for _ in range(3):
        assert boots.lookup(MAC1, IP1) == "one"
        clock.sleep(2.0)
    assert events == [("pc1", "script", asked + later) for later in (0.0, 2.0, 4.0)]


def test_who_decides_at_each_request(
    boots: Boots, events: Events, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    later: Future[str] = Future()
    answers = iter(("one", BootRefusedError("it was asked for before"), later))

    def ask() -> str | Future[str]:
        answer = next(answers)
        if isinstance(answer, BootRefusedError):
            raise answer
        return answer

    boots.arm("pc1", ask)
    assert boots.lookup(MAC1, IP1) == "one"
    assert boots.lookup(MAC1, IP2) is None
    assert boots.lookup(MAC1, IP1) is None
    assert caplog.messages[-1].endswith("it was asked for before")
    clock.sleep(5.0)
    asked = clock.monotonic()
    assert boots.lookup(MAC1, IP1) is later
    assert len(events) == 1
    clock.sleep(1.0)
    later.set_result("two")
    assert events == [("pc1", "script", 1000.0), ("pc1", "script", asked)]


def test_who_makes_scripts_is_told_what_carries_the_request(boots: Boots) -> None:
    boots.make_when_asked("pc1", lambda *, by_dhcp=False: f"by DHCP: {by_dhcp}")
    assert boots.lookup(MAC1, IP1) == "by DHCP: False"
    assert boots.lookup_by_dhcp(MAC1, IP1) == "by DHCP: True"
    assert boots.lookup_by_dhcp(MAC1, IP2) is None


def test_files_are_for_their_host_as_long_as_it_is_armed_with_them(
    make_config: MakeConfig,
) -> None:
    cards = {IP1: MAC1, IP2: MAC2}
    boots = Boots(make_config().hosts, lambda *_: None, lambda source: cards.get(source, ""))
    boots.arm("pc1", "one", {"BCD": Path("/a/BCD")})
    boots.arm("pc2", "two")
    assert boots.lookup_file("BCD", IP1) == Path("/a/BCD")
    for name, source in (("BCD", IP2), ("BCD", "10.99.0.9"), ("bcd", IP1), ("../BCD", IP1)):
        assert boots.lookup_file(name, source) is None
    cards[IP1] = MAC2
    assert boots.lookup_file("BCD", IP1) is None, "pc2 has taken the address of pc1"
    cards[IP1] = MAC1
    boots.arm("pc1", "one")
    assert boots.lookup_file("BCD", IP1) is None
    boots.arm("pc1", "one", {"BCD": Path("/a/BCD")})
    boots.disarm("pc1")
    assert boots.lookup_file("BCD", IP1) is None


@pytest.mark.parametrize(
    ("mac", "source", "reason"),
    [
        (MAC2, IP2, "pc2 is not armed"),
        (MAC1, IP2, f"pc1 has the address {IP1}"),
        (MAC1, "", f"pc1 has the address {IP1}"),
        ("52:54:00:99:00:77", IP1, "no host has this MAC address"),
        ("", IP1, "that is no MAC address"),
        ("52:54:00:99:00:0g", IP1, "that is no MAC address"),
        (MAC1 + "\nforged line" + "x" * 99, IP1, "that is no MAC address"),
    ],
)
def test_refusals_name_their_reason(
    boots: Boots, events: Events, caplog: pytest.LogCaptureFixture,
    mac: str, source: str, reason: str,
) -> None:  # fmt: skip
    boots.arm("pc1", "secret script")
    assert boots.lookup(mac, source) is None
    (line,) = caplog.messages
    assert line.endswith(reason)
    assert "\n" not in line
    assert len(line) < 150
    assert "secret script" not in line
    assert events == ([("pc2", "unarmed", 1000.0)] if reason == "pc2 is not armed" else [])


def test_a_host_asks_in_its_own_network(
    make_config: MakeConfig, caplog: pytest.LogCaptureFixture
) -> None:
    listeners = {"pc1": "10.99.0.1", "pc2": "10.99.20.1"}
    boots = Boots(make_config().hosts, lambda *_: None, listeners=listeners)
    boots.arm("pc1", "one")
    assert boots.lookup(MAC1, IP1, "10.99.0.1") == "one"
    assert boots.knows(IP1, "10.99.0.1")
    assert boots.lookup(MAC1, IP1, "10.99.20.1") is None
    assert not boots.knows(IP1, "10.99.20.1")
    (line,) = caplog.messages
    assert line.startswith(f"pc1 ({IP1}) gets no boot script")
    assert line.endswith("it asked at 10.99.20.1, and the network of pc1 is that of 10.99.0.1")


def test_disarmed_host_gets_nothing(boots: Boots) -> None:
    boots.arm("pc1", "one")
    boots.disarm("pc1")
    boots.disarm("pc1")
    assert boots.lookup(MAC1, IP1) is None


def test_unknown_label(boots: Boots) -> None:
    with pytest.raises(UnknownHostError, match="pc9"):
        boots.arm("pc9", "one")
    with pytest.raises(UnknownHostError, match="pc9"):
        boots.disarm("pc9")


@pytest.mark.parametrize(
    "text", ["52:54:00:99:00:AB", "52-54-00-99-00-ab", "5254.0099.00ab", "5254009900AB"]
)
def test_usual_notations(text: str) -> None:
    assert normalize(text) == "52:54:00:99:00:ab"

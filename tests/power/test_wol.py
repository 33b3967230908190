"""Magic packets, caught on the other end of a wire."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from cuckoo_zfsiscsi.config import PowerUrl
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import ConfigError, PowerError
from cuckoo_zfsiscsi.power import Driver, PowerState
from cuckoo_zfsiscsi.power.wol import connect
from tests.netboot.network import Network, inside, make_network
from tests.waiting import HANG

MAC = "00:11:22:33:44:55"
MAGIC = bytes.fromhex("ff" * 6 + "001122334455" * 16)
ALL = 3


@pytest.fixture(scope="module")
def net() -> Iterator[Network]:
    with make_network(f"wol{os.getpid()}") as network:
        network.run(network.server, "ip route add 255.255.255.255 dev boot0")
        yield network


def caught(net: Network, url: str) -> bytes:
    """Return the frame that carries the packet, sent as a URL says."""
    driver: Driver = connect(PowerUrl.parse(url), None)
    with inside(net.hosts):
        wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL))
    with wire:
        wire.bind(("nic0", ALL))
        wire.settimeout(HANG)
        with inside(net.server):
            driver.request(PowerState.ON, deadline=Deadline(HANG))
        while MAGIC not in (frame := wire.recv(2048)):
            pass
        return frame


@pytest.mark.parametrize(
    ("url", "kind", "ip", "port"),
    [
        (f"wol:?mac={MAC}", "0800", "255.255.255.255", 9),
        (f"wol://10.99.0.255?mac={MAC}", "0800", "10.99.0.255", 9),
        (f"wol://10.99.0.255:7?mac={MAC}&interface=10.99.0.1", "0800", "10.99.0.255", 7),
    ],
)
def test_broadcast(net: Network, url: str, kind: str, ip: str, port: int) -> None:
    frame = caught(net, url)
    assert frame[:6] == bytes.fromhex("ffffffffffff")
    assert frame[12:14].hex() == kind
    assert socket.inet_ntoa(frame[30:34]) == ip
    assert int.from_bytes(frame[36:38], "big") == port


def test_raw(net: Network) -> None:
    frame = caught(net, f"wol://boot0?mac={MAC}&raw=yes")
    assert frame[:6] == bytes.fromhex("ffffffffffff")
    assert frame[12:14].hex() == "0842"
    assert frame[14:] == MAGIC


def test_only_on_and_no_state() -> None:
    driver = connect(PowerUrl.parse(f"wol:?mac={MAC}"), None)
    assert driver.can.switch == {PowerState.ON}
    with pytest.raises(PowerError, match="only wakes"):
        driver.request(PowerState.OFF, deadline=Deadline(HANG))
    with pytest.raises(PowerError, match="no state"):
        driver.query(deadline=Deadline(HANG))


def test_can_not_be_sent(net: Network) -> None:
    driver = connect(PowerUrl.parse(f"wol://none0?mac={MAC}&raw=yes"), None)
    with inside(net.server), pytest.raises(PowerError, match="can't be sent: No such device") as no:
        driver.request(PowerState.ON, deadline=Deadline(HANG))
    assert no.value.fix


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("wol", "no MAC"),
        ("wol:?mac=x", "mac is not right"),
        (f"wol:?mac={MAC}&raw=yes", "raw needs"),
    ],
)
def test_configuration(url: str, what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        connect(PowerUrl.parse(url), None)

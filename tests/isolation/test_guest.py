"""What a guest runs, run here: in namespaces of their own, as clean guests on one wire."""

from __future__ import annotations

import base64
import json
import socket
import subprocess
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.errors import NotReadyError
from cuckoo_zfsiscsi.isolation.guest import MOST, Peer, command, parse
from tests.netboot.network import Network, inside, make_network

LISTENS, REFUSES = 8000, 8001


@pytest.fixture
def net() -> Iterator[Network]:
    with make_network("isolation") as made:
        made.run(made.hosts, "ip addr add 10.99.0.11/24 dev nic0")
        yield made


def mac_of(namespace: Path) -> str:
    argv = ["nsenter", f"--net={namespace}", "ip", "-json", "link"]
    links = json.loads(subprocess.run(argv, check=True, capture_output=True).stdout)
    return str(next(link["address"] for link in links if link["address"] != "00:00:00:00:00:00"))


def test_linux(net: Network) -> None:
    """Who listens, refuses, drops all but answers ARP, is not there, has another's address."""
    with inside(net.server):
        server = socket.create_server(("10.99.0.1", LISTENS))
    card = mac_of(net.server)
    here, drops = IPv4Address("10.99.0.1"), IPv4Address("10.99.0.8")
    rules = [
        ["ip", "addr", "add", f"{drops}/24", "dev", "boot0"],
        ["iptables", "-A", "INPUT", "-d", str(drops), "-j", "DROP"],
    ]
    for argv in rules:
        subprocess.run(["nsenter", f"--net={net.server}", *argv], check=True)
    peers = [
        Peer("listens", here, card, (LISTENS,)),
        Peer("refuses", here, card, (REFUSES,)),
        Peer("drops", drops, card, (LISTENS,)),
        Peer("another's card", drops, "02:00:00:00:00:99", (LISTENS,)),
        Peer("nobody", IPv4Address("10.99.0.9"), card, (LISTENS, REFUSES)),
    ]
    with server:
        argv = ["nsenter", f"--net={net.hosts}", *command("linux", peers)]
        said = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    assert parse(said, peers) == {
        "listens": f"TCP {LISTENS}", "refuses": f"TCP {REFUSES}", "drops": "ARP",
        "another's card": "", "nobody": "",
    }  # fmt: skip


def test_windows_command_fits() -> None:
    """Windows' command lines end at 32,767 characters. PowerShell itself is not to be had here."""
    peers = [Peer("p" * 63, IPv4Address("10.255.255.255"), "00:11:22:33:44:55", (65535, 65535))] * (
        MOST + 1
    )
    argv = command("windows", peers)
    assert sum(len(word) + 3 for word in argv) < 32_767
    script = base64.b64decode(argv[-1]).decode("utf-16-le")
    assert "'00-11-22-33-44-55',@(65535,65535)" in script
    assert '("' not in script.split("\n")[0]


@pytest.mark.parametrize("said", ["", "Traceback", "[]", '{"other": ""}', "[" * 100_000])
def test_what_is_no_answer(said: str) -> None:
    with pytest.raises(NotReadyError, match="does not say whom it reached"):
        parse(said, [Peer("pc2", IPv4Address("10.99.0.12"), "", (1,))])

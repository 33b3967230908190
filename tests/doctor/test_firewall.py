"""The ruleset as the doctor sees it: on a server that is well, and with the real nft."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.check import Finding
from cuckoo_zfsiscsi.config import Config
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.doctor.firewall import check_firewall
from cuckoo_zfsiscsi.doctor.system import System
from cuckoo_zfsiscsi.errors import NetbootError
from cuckoo_zfsiscsi.netboot import address, firewall
from tests.config.sample import edit, read
from tests.doctor.server import Server
from tests.netboot.network import Network, inside, make_network
from tests.waiting import HANG

EMPTY = '{"nftables": []}'


def test_not_loaded(server: Server) -> None:
    server.say("nft --json", EMPTY)
    one = server.problem(check_firewall)
    assert (one.level, one.fix) == ("warning", "systemctl enable --now zfsiscsi-firewall.service")
    assert "not loaded" in one.what
    shutil.rmtree(server.root / "run/systemd")
    assert server.problem(check_firewall).fix == "zfsiscsi netboot firewall --apply"


def test_no_nft(server: Server) -> None:
    server.says["nft --json"] = None
    assert server.problem(check_firewall).fix == "apt install nftables"
    server.say("nft --json", code=1, err="Operation not permitted\n")
    assert "Operation not permitted" in server.problem(check_firewall).what
    server.is_root = False
    assert server.find(check_firewall) == []


def test_another_one(server: Server) -> None:
    server.say("unshare --net", EMPTY)
    one = server.problem(check_firewall)
    assert (one.level, one.fix) == ("warning", "systemctl reload zfsiscsi-firewall.service")
    server.say("unshare --net", code=1, err="unshare failed: Operation not permitted\n")
    assert "is not known: unshare failed" in server.problem(check_firewall).what


def test_not_at_the_next_start(server: Server) -> None:
    server.say("systemctl is-enabled zfsiscsi-firewall", "disabled\n", code=1)
    assert server.problem(check_firewall).fix == "systemctl enable zfsiscsi-firewall.service"


def test_addresses_are_not_known(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: str) -> str:
        raise NetbootError("ip is not installed", fix="apt install iproute2")

    monkeypatch.setattr(address, "_ip", broken)
    assert server.problem(check_firewall).fix == "apt install iproute2"


@pytest.fixture(scope="module")
def net() -> Iterator[Network]:
    with make_network(f"zd{os.getpid()}") as made:
        yield made


Look = Callable[[Config], list[Finding]]


@pytest.fixture
def see(net: Network) -> Iterator[Look]:
    """Look at the real one; this server has no systemd."""

    def real(config: Config) -> list[Finding]:
        with inside(net.server):
            return list(check_firewall(config, System()))

    yield real
    net.run(net.server, "nft flush ruleset")


def load(net: Network, config: Config) -> None:
    with inside(net.server):
        firewall.apply(config, firewall.look(), Deadline(HANG))


def test_really(net: Network, see: Look, tmp_path: Path) -> None:
    config = read(tmp_path, edit())
    (missing,) = see(config)
    assert "not loaded" in missing.what
    load(net, config)
    (well,) = see(config)
    assert well.level == "ok"
    net.run(net.server, "nft add element inet zfsiscsi asking-tftp { 10.99.0.11 }")
    assert see(config) == [well], "packets have filled a set"
    more = read(tmp_path, edit(("mac = 00:11:22:33:44:01", "mac = 00:11:22:33:44:99")))
    (other,) = see(more)
    assert "not what zfsiscsi.conf" in other.what
    load(net, more)
    assert see(more) == [well]
    net.run(net.server, "nft flush chain inet zfsiscsi input")
    assert see(more) == [other], "a rule was removed by hand"

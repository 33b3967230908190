"""The rules as text and as nft(8) sees them; what they do is in tests/faults/test_networks.py."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.config import load
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import NetbootError
from cuckoo_zfsiscsi.netboot.firewall import render, render_checked
from tests.config.sample import EXAMPLE, GOOD, edit, read
from tests.netboot.conftest import MakeConfig
from tests.netboot.exchange import fake_program
from tests.netboot.network import Network, inside
from tests.waiting import HANG

ROOT = Path(__file__).parents[2]


def test_each_host_has_its_result_server(tmp_path: Path) -> None:
    text = edit(("arch = x64", "arch = x64\nresultserver_ip = 10.99.0.5\nresultserver_port = 99"))
    rules = render(read(tmp_path, text))
    assert "10.99.0.11 . 10.99.0.5 . 99,\n" in rules
    assert "10.99.0.12 . 10.99.0.1 . 2042,\n" in rules
    assert "{ 10.99.0.1 . 8471, 10.99.0.1 . 3260 }" in rules


def test_a_network_without_hosts_reaches_nothing_but_dhcp(tmp_path: Path, net: Network) -> None:
    more = "[network:v]\ninterface = br-v\naddress = 10.99.20.1/24\n"
    config = read(tmp_path, GOOD + more)
    with inside(net.server):
        done = render_checked(config, Deadline(HANG))
    assert done.unchecked == ""
    own = done.text.partition("chain from-v {")[2].partition("}\n")[0]
    assert "10.99.20.1" not in done.text.partition("chain from-v {")[0]
    assert "tcp" not in own


def test_nft_has_the_last_word(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_program(tmp_path, monkeypatch, "nft", "echo line 7: nonsense >&2; exit 1")
    with pytest.raises(NetbootError, match="nft refuses its configuration: line 7"):
        render_checked(make_config(), Deadline(HANG))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert render_checked(make_config(), Deadline(HANG)).unchecked.startswith("nft checks for root")


def test_no_value_can_add_a_rule(make_config: MakeConfig) -> None:
    config = make_config()
    bad = config.netboot.model_copy(update={"interface": 'x" accept; #'})
    with pytest.raises(NetbootError, match="interface"):
        render(config.model_copy(update={"netboot": bad}))


def test_the_example_in_deploy_is_current() -> None:
    rules = render(load(EXAMPLE, environ={}))
    shown = (ROOT / "deploy" / "nftables" / "zfsiscsi.nft").read_text()
    assert shown == rules, "zfsiscsi --conf conf/zfsiscsi.conf netboot firewall"

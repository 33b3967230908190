"""The rules as text and as nft(8) sees them.

What they do is in test_isolation.py, and with the whole service in tests/faults/test_networks.py.
"""

from __future__ import annotations

import os
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.config import Config, load
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import NetbootError
from cuckoo_zfsiscsi.netboot import firewall
from cuckoo_zfsiscsi.netboot.firewall import Server, guard, remarks, render, render_checked
from tests.config.sample import EXAMPLE, GOOD, edit, read
from tests.netboot.conftest import MakeConfig
from tests.netboot.exchange import fake_program
from tests.netboot.network import Network, inside
from tests.waiting import HANG

ROOT = Path(__file__).parents[2]
RESOLVER = IPv4Address("192.0.2.53")
BARE = Server()
"""Nothing is known of it but what zfsiscsi.conf says."""
STORAGE = Server({IPv4Address("10.99.0.1"): "br-lab"}, RESOLVER)
CAPES = Server({IPv4Address("10.99.0.2"): "eth5", IPv4Address("10.98.0.2"): "eth6"}, RESOLVER)


def elsewhere(folder: Path) -> Config:
    """CAPE is on another server than storage, and the hosts' gateway."""
    more = "[netboot]\ngateway = 10.99.0.2\n"
    service = "[zfsiscsi]\nservice = http://10.98.0.1:8470\n"
    return read(folder, edit(("[netboot]\n", more), ("[zfsiscsi]\n", service)))


def test_each_host_has_its_result_server(tmp_path: Path) -> None:
    text = edit(("arch = x64", "arch = x64\nresultserver_ip = 10.99.0.5\nresultserver_port = 99"))
    rules = render(read(tmp_path, text), BARE)
    assert "10.99.0.11 . 10.99.0.5 . 99,\n" in rules
    assert "10.99.0.12 . 10.99.0.1 . 2042,\n" in rules
    for host, port in ((11, 3271), (12, 3272)):
        assert f"            10.99.0.{host} . 10.99.0.1 . {port},\n" in rules, "its own alone"
        assert f"            10.99.0.{host} . 10.99.0.1 . 8471,\n" in rules


def test_the_gateway_lets_through_and_no_other_server(tmp_path: Path) -> None:
    config = elsewhere(tmp_path)
    for storage in (STORAGE, BARE):
        rules = render(config, storage)
        assert 'iifname { "br-lab" } counter drop' in rules
        assert "through-" not in rules
        assert "dnat ip to" not in rules
    rules = render(config, CAPES)
    assert 'iifname "eth5" ip saddr @guests-of-netboot goto through-netboot' in rules
    assert "br-lab" not in rules
    assert (
        "ip daddr { 10.99.0.2 } meta l4proto { tcp, udp } th dport 53 dnat ip to 192.0.2" in rules
    )
    assert "10.99.0.11 . 10.99.0.2 . 2042,\n" in rules, "CAPE's result server is there"
    assert "            10.98.0.1/32,\n" in rules, "the control API's server"


def test_capes_server_that_is_no_gateway_still_takes_results(tmp_path: Path) -> None:
    config = read(tmp_path, edit(("[netboot]\n", "[netboot]\ngateway = 10.99.0.254\n")))
    rules = render(config, CAPES)
    assert "10.99.0.11 . 10.99.0.2 . 2042,\n" in rules
    assert 'iifname { "eth5" } counter drop' in rules
    assert "through-" not in rules
    assert "10.99.0.11 . 10.99.0.1 . 2042,\n" in render(config, STORAGE)


def test_a_host_with_another_gateway_is_not_let_through(tmp_path: Path) -> None:
    text = edit(("mac = 00:11:22:33:44:01", "mac = 00:11:22:33:44:01\ngateway = 10.99.0.254"))
    (net,) = guard(read(tmp_path, text), STORAGE)
    assert list(net.guests) == ["pc2"]
    text = edit(("mac = 00:11:22:33:44:01", "mac = 00:11:22:33:44:01\nnetwork_via = agent"))
    (net,) = guard(read(tmp_path, text), STORAGE)
    assert list(net.guests) == ["pc1", "pc2"], "whoever tells it"


def test_names_of_another_server_are_not_redirected(tmp_path: Path) -> None:
    config = read(tmp_path, edit(("[netboot]", "[netboot]\ndns = 9.9.9.9")))
    assert "dport 53 dnat" not in render(config, STORAGE)
    assert remarks(guard(config, STORAGE), Server(STORAGE.addresses)) == []


def test_overlapping_networks_are_one(tmp_path: Path) -> None:
    more = "[netboot]\nallow = 10.0.0.0/8, 10.1.0.0/16, 192.168.1.1\n"
    rules = render(read(tmp_path, edit(("[netboot]\n", more))), STORAGE)
    assert "ip daddr { 10.0.0.0/8, 192.168.1.1/32 } accept" in rules


def test_remarks(tmp_path: Path) -> None:
    config = read(tmp_path, GOOD)
    assert remarks(guard(config, STORAGE), STORAGE) == []
    (blind,) = remarks(guard(config, STORAGE), Server(STORAGE.addresses))
    assert "it knows no other name server" in blind
    lost = Server({IPv4Address("127.0.0.1"): "lo"}, RESOLVER)
    (elsewhere,) = remarks(guard(config, lost), lost)
    assert "is its network up?" in elsewhere
    assert "Queries are dropped" in render(config, BARE)


def test_a_network_without_hosts_reaches_nothing_but_dhcp(tmp_path: Path, net: Network) -> None:
    more = "[network:v]\ninterface = br-v\naddress = 10.99.20.1/24\n"
    config = read(tmp_path, GOOD + more)
    with inside(net.server):
        done = render_checked(config, STORAGE, Deadline(HANG))
    assert done.unchecked == ""
    own = done.text.partition("chain from-v {")[2].partition("}\n")[0]
    assert "tcp" not in own
    assert "-of-v" not in done.text


def test_nft_has_the_last_word(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_program(tmp_path, monkeypatch, "nft", "echo line 7: nonsense >&2; exit 1")
    with pytest.raises(NetbootError, match="nft refuses its configuration: line 7"):
        render_checked(make_config(), BARE, Deadline(HANG))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    done = render_checked(make_config(), BARE, Deadline(HANG))
    assert done.unchecked.startswith("nft checks for root")


def test_what_nft_refuses_changes_nothing(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, net: Network
) -> None:
    fake_program(tmp_path, monkeypatch, "nft", "echo line 7: nonsense >&2; exit 1")
    with inside(net.server), pytest.raises(NetbootError, match="line 7"):
        firewall.apply(make_config(), STORAGE, Deadline(HANG))
    assert "zfsiscsi" not in net.run(net.server, "iptables -S")


def test_only_root_changes_it(make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(NetbootError, match="only root"):
        firewall.apply(make_config(), BARE, Deadline(HANG))
    with pytest.raises(NetbootError, match="only root"):
        firewall.remove(Deadline(HANG))


def test_without_iptables_nothing_is_let_through(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, net: Network
) -> None:
    fake_program(tmp_path, monkeypatch, "iptables", "echo no such table >&2; exit 3")
    with inside(net.server), pytest.raises(NetbootError, match="no such table"):
        firewall.apply(make_config(), STORAGE, Deadline(HANG))
    assert "zfsiscsi" not in net.run(net.server, "nft list ruleset")


def test_forward_drops_only_where_hosts_are_let_through(tmp_path: Path, net: Network) -> None:
    for server, policy in ((STORAGE, "ACCEPT"), (CAPES, "DROP")):
        with inside(net.server):
            firewall.apply(elsewhere(tmp_path), server, Deadline(HANG))
        assert f"-P FORWARD {policy}" in net.run(net.server, "iptables -S")
    net.run(net.server, "nft flush ruleset")


def test_no_value_can_add_a_rule(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config()
    bad = config.netboot.model_copy(update={"interface": 'x" accept; #'})
    with pytest.raises(NetbootError, match="interface"):
        render(config.model_copy(update={"netboot": bad}), BARE)
    odd = Server({IPv4Address("10.99.0.2"): 'x" accept; #'})
    with pytest.raises(NetbootError, match="interface"):
        render(elsewhere(tmp_path), odd)


def test_the_example_in_deploy_is_current() -> None:
    rules = render(load(EXAMPLE, environ={}), Server(resolver=RESOLVER))
    shown = (ROOT / "deploy" / "nftables" / "zfsiscsi.nft").read_text()
    assert shown == rules, "zfsiscsi --conf conf/zfsiscsi.conf netboot firewall"

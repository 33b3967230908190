from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable

import pytest

from cuckoo_zfsiscsi.errors import LabError
from cuckoo_zfsiscsi.lab import network as net
from cuckoo_zfsiscsi.lab.network import FOLDER, Network
from tests.waiting import HANG, wait


def test_what_is_in_it(network_name: Callable[[], str]) -> None:
    with Network(network_name(), hosts=2) as network:
        links = {link["ifname"]: link for link in json.loads(network.run(["ip", "-j", "address"]))}
        addresses = {
            name: {entry["local"] for entry in link["addr_info"]} for name, link in links.items()
        }
        assert {"lo", "boot0", "keep0", "keep1", "tap1", "tap2"} == set(links)
        assert {"10.99.0.1", "fd99::1"} <= addresses["boot0"]
        assert {"10.98.0.11", "10.98.0.12"} <= addresses["lo"]
        assert network.pids() == []
    assert not (FOLDER / network.name).exists()


def test_the_bridge_has_a_carrier_while_every_host_is_off(network: Network) -> None:
    def show() -> str:
        return network.run(["ip", "-j", "link", "show", "boot0"])

    wait(
        lambda: json.loads(show())[0]["operstate"] == "UP", what="a carrier", seen=show, pause=0.05
    )


def test_no_way_out(network: Network) -> None:
    assert network.run(["ip", "-4", "route", "show", "default"]) == ""
    assert network.run(["ip", "-6", "route", "show", "default"]) == ""


def test_removal_ends_what_runs_inside(network_name: Callable[[], str]) -> None:
    with Network(network_name()) as network:
        stubborn = ["sh", "-c", "trap '' TERM INT; sleep 60"]
        process = subprocess.Popen([*network.prefix, *stubborn])
        wait(lambda: process.pid in network.pids(), what="the process inside", seen=network.pids)
    assert process.wait(HANG) == -9
    assert not (FOLDER / network.name).exists()


def test_removed_twice_or_never_made(network_name: Callable[[], str]) -> None:
    network = Network(network_name())
    network.down()
    network.up()
    network.down()
    network.down()


def test_a_half_made_one_is_removed(
    network_name: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(net, "SERVER6", "nonsense")
    network = Network(network_name())
    with pytest.raises(LabError, match="nonsense"), network:
        pytest.fail("it can't be up")
    assert not (FOLDER / network.name).exists()


def test_a_name_in_use(network: Network) -> None:
    with pytest.raises(LabError, match="File exists"):
        Network(network.name).up()
    assert network.pids() == []


def test_not_root(network_name: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(LabError, match="needs root"):
        Network(network_name()).up()


def test_a_network_is_gone_with_its_name() -> None:
    with Network() as network:
        assert network.name == f"zfsiscsi-lab-{os.getpid()}"
        assert (net.FOLDER / network.name).exists()
    assert not (net.FOLDER / network.name).exists()


def test_who_is_who() -> None:
    assert str(net.host_address(1)) == "10.99.0.11"
    assert str(net.bmc_address(2)) == "10.98.0.12"
    assert net.mac(1) == "52:54:00:99:00:01"
    assert net.tap(3) == "tap3"


def test_an_immortal_process(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    with subprocess.Popen([*network.prefix, "sleep", "60"]) as process:
        with monkeypatch.context() as patch:
            patch.setattr(net, "TIMEOUT", 0.1)
            patch.setattr(network, "pids", lambda: [process.pid])
            with pytest.raises(
                LabError,
                match=rf"can't be killed: process {process.pid} \((sleep|nsenter)\) [DRSZ]",
            ):
                network.down()
        assert process.wait(HANG) == -9

"""Against a real dnsmasq; what it does like the others is in test_server.py."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from cuckoo_zfsiscsi import environment
from cuckoo_zfsiscsi.config import Config
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import NetbootError
from cuckoo_zfsiscsi.netboot import address, checker
from cuckoo_zfsiscsi.netboot.address import ensure_addresses
from cuckoo_zfsiscsi.netboot.dnsmasq import Dnsmasq, render
from tests.netboot.conftest import MakeConfig
from tests.netboot.exchange import fake_program
from tests.netboot.network import Network, inside, make_network
from tests.waiting import HANG


@pytest.fixture
def config(make_config: MakeConfig) -> Config:
    return make_config("boot0", more="boot_file = snponly.efi")


@pytest.fixture
def server(net: Network, config: Config) -> Iterator[Dnsmasq]:
    one = Dnsmasq(config, lambda *_: None)
    with inside(net.server), closing(one):
        one.open(Deadline(HANG))
        yield one


def test_serves_only_its_interface(net: Network, server: Dnsmasq) -> None:
    assert server.alive()
    sockets = net.run(net.server, "ss -lntu")
    assert ":53 " not in sockets
    assert "127.0.0.1:" not in sockets


def test_the_address_for_advertisements_is_added_once(
    net: Network, config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "cuckoo_zfsiscsi.netboot.address")
    net.run(net.server, "ip -6 addr flush dev boot0 scope global")
    with inside(net.server):
        for _ in range(2):
            ensure_addresses(config.networks[0])
    assert [line for line in caplog.messages if "fd99::1/64" in line] == [
        "boot0: added the address fd99::1/64, for router advertisements"
    ]
    assert "fd99::1/64" in net.run(net.server, "ip -6 addr show dev boot0")


def test_without_advertisements(net: Network, make_config: MakeConfig) -> None:
    config = make_config("boot0", ra_prefix="off")
    assert "enable-ra" not in render(config)
    one = Dnsmasq(config, lambda *_: None)
    with inside(net.server):
        one.open(Deadline(HANG))
    one.close()


@pytest.mark.parametrize(
    ("prepare", "what", "fix"),
    [
        ("ip link set boot0 down", "the interface boot0 is down", "ip link set boot0 up"),
        (
            "ip addr del 10.99.0.1/24 dev boot0",
            "has not the address 10.99.0.1",
            "ip address add 10.99.0.1/24 dev boot0",
        ),
        ("ip link del boot0", "boot0", "check interface"),
    ],
)
def test_interface_not_as_configured(
    config: Config, prepare: str, what: str, fix: str, tmp_path: Path
) -> None:
    with make_network(f"zj{os.getpid()}") as net:
        net.run(net.server, prepare)
        one = Dnsmasq(config, lambda *_: None)
        with inside(net.server), pytest.raises(NetbootError, match=what) as caught:
            one.open(Deadline(HANG))
    assert fix in caught.value.fix
    assert not one.alive()
    assert not (tmp_path / "dnsmasq.conf").exists()


def test_no_tftp_root(net: Network, make_config: MakeConfig) -> None:
    one = Dnsmasq(make_config("boot0", tftp_root="/nonexistent"), lambda *_: None)
    with inside(net.server), pytest.raises(NetbootError, match="/nonexistent") as caught:
        one.open(Deadline(HANG))
    assert caught.value.fix == "apt install ipxe"


def test_programs_missing(
    net: Network, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(environment, "_SYSTEM", ())
    one = Dnsmasq(config, lambda *_: None)
    with inside(net.server):
        with pytest.raises(NetbootError, match="ip is not installed"):
            one.open(Deadline(HANG))
        (folder / "ip").symlink_to("/usr/bin/ip")
        with pytest.raises(NetbootError, match="dnsmasq is not installed") as caught:
            one.open(Deadline(HANG))
    assert caught.value.fix == "apt install dnsmasq-base"


def test_ip_that_hangs(
    net: Network, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_program(tmp_path, monkeypatch, "ip", "exec sleep 20")
    monkeypatch.setattr(address, "TIMEOUT", 0.3)
    with inside(net.server), pytest.raises(NetbootError, match="does not end"):
        ensure_addresses(config.networks[0])


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo bad option >&2; exit 1", "refuses its configuration: bad option"),
        ("exec sleep 20", "does not end"),
    ],
)
def test_dnsmasq_does_not_like_it(
    net: Network, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    script: str, reason: str,
) -> None:  # fmt: skip
    if "sleep" in script:
        monkeypatch.setattr(checker, "TIMEOUT", 0.3)
    fake_program(tmp_path, monkeypatch, "dnsmasq", script)
    one = Dnsmasq(config, lambda *_: None)
    with inside(net.server), pytest.raises(NetbootError, match=reason):
        one.open(Deadline(HANG))


@pytest.mark.parametrize("field", ["interface", "tftp_root"])
def test_no_value_can_add_a_line(config: Config, field: str) -> None:
    bad = config.netboot.model_copy(update={field: "x\ndhcp-script=/bin/sh"})
    with pytest.raises(NetbootError, match=field):
        render(config.model_copy(update={"netboot": bad}))


def test_no_boot_file_can_add_a_line(config: Config) -> None:
    for bad in ("x\ndhcp-script=/bin/sh", "x,server", "a b"):
        hosts = (config.hosts[0].model_copy(update={"boot_file": bad}),)
        with pytest.raises(NetbootError, match=r"pc1\.boot_file"):
            render(config.model_copy(update={"hosts": hosts}))


def test_many_hosts_pass_dnsmasqs_own_check(config: Config, tmp_path: Path) -> None:
    first = config.hosts[0]
    hosts = tuple(
        first.model_copy(
            update={"mac": f"52:54:00:99:00:{n:02x}", "ip": f"10.99.0.{n}", "label": f"p{n}"}
            | ({"boot_file": "snponly.efi"} if n % 2 else {})
        )
        for n in range(2, 202)
    )
    file = tmp_path / "many.conf"
    file.write_text(render(config.model_copy(update={"hosts": hosts})))
    subprocess.run(["dnsmasq", "--test", f"--conf-file={file}"], check=True, timeout=HANG)

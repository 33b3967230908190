from __future__ import annotations

import re
import subprocess
from ipaddress import IPv4Address, IPv4Interface, IPv6Network
from pathlib import Path

import pytest
from pydantic import ValidationError

from cuckoo_zfsiscsi.config import InvalidConfigError, load
from cuckoo_zfsiscsi.errors import ConfigError, UnknownHostError
from tests.config.sample import EXAMPLE, GOOD, SECRET, edit, mistakes, read
from tests.config.typos import TYPOS


def test_everything_is_typed(tmp_path: Path) -> None:
    config = read(tmp_path, GOOD)
    assert config.path == tmp_path / "zfsiscsi.conf"
    general = config.zfsiscsi
    assert general.machines == ("pc1", "pc2")
    assert general.service == "http://127.0.0.1:8470"
    assert general.token_file == Path("/etc/zfsiscsi/token")
    assert general.run_dir == Path("/run/zfsiscsi")
    assert (general.start_timeout, general.stop_timeout) == (300.0, 60.0)
    assert config.storage.portal == IPv4Address("10.99.0.1")
    assert (config.storage.store, config.storage.target) == ("file", "tgt")
    assert config.netboot.address == IPv4Interface("10.99.0.1/24")
    assert config.netboot.ra_prefix == IPv6Network("fd99:0:0:1::/64")
    assert (config.netboot.dhcp, config.netboot.boot_port) == ("dnsmasq", 8471)
    first, second = config.hosts
    assert (first.section, first.label, first.mac) == ("pc1", "pc1", "00:11:22:33:44:01")
    assert (first.tags, second.tags) == (("win10", "x64"), ())
    assert first.ready == ("rpc", "agent")
    assert (first.firmware, first.reset_on, first.prewarm) == ("bios", "start", False)
    assert (second.snapshot, second.power[0][0].host) == ("debian@3", "10.98.0.12")
    assert (first.rpc_port, first.agent_port) == (135, 8000)
    assert (first.boot_timeout, first.power_timeout, first.power_interval) == (180.0, 60.0, 1.0)


def test_models_are_frozen_and_closed(tmp_path: Path) -> None:
    host = read(tmp_path, GOOD).hosts[0]
    with pytest.raises(ValidationError, match="frozen"):
        host.mac = "x"  # type: ignore[misc]
    with pytest.raises(ValidationError, match="Extra inputs"):
        type(host).model_validate({**host.model_dump(), "colour": "red"})


def test_keys_that_only_cape_knows_are_allowed(tmp_path: Path) -> None:
    text = edit(
        ("[storage]", "dsn = qemu:///system\ntotal_machines_limit = 5\n[storage]"),
        ("arch = x64", "arch = x64\nresultserver = 10.99.0.1\nreserved = yes\n"
         "resultserver_ip = 10.99.0.1\nresultserver_port = 2042\ninterface = eth1"),
    )  # fmt: skip
    host = read(tmp_path, text).host("pc1")
    assert host.reserved is True
    assert host.resultserver_ip == IPv4Address("10.99.0.1")
    assert (host.resultserver_port, host.interface) == (2042, "eth1")


def test_host_by_label(tmp_path: Path) -> None:
    config = read(tmp_path, GOOD)
    assert config.host("pc2").ip == IPv4Address("10.99.0.12")
    with pytest.raises(UnknownHostError) as near:
        config.host("pc22")
    assert near.value.fix == "did you mean pc2?"
    with pytest.raises(UnknownHostError) as far:
        config.host("printer")
    assert "pc1, pc2" in far.value.fix


def test_unix_socket_needs_no_token(tmp_path: Path) -> None:
    text = edit(("token_file = /etc/zfsiscsi/token", "service = unix:///run/zfsiscsi/api.sock"))
    general = read(tmp_path, text).zfsiscsi
    assert general.token_file is None
    assert general.read_token() is None


def test_off_and_words_of_switches(tmp_path: Path) -> None:
    text = edit(
        ("ra_prefix = fd99:0:0:1::/64", "ra_prefix = off"),
        ("arch = x64", "arch = x64\nprewarm = On\nready = rpc\nfirmware = uefi"),
    )
    config = read(tmp_path, text)
    assert config.netboot.ra_prefix is None
    assert config.hosts[0].prewarm is True
    assert config.hosts[0].ready == ("rpc",)


@pytest.mark.parametrize("name", TYPOS)
def test_typo(tmp_path: Path, name: str) -> None:
    change, section, key, reason, fix = TYPOS[name]
    found = mistakes(tmp_path, edit(change))
    here = [m for m in found if (m.section, m.key) == (section, key) and reason in m.reason]
    assert len(here) == 1, [str(m) for m in found]
    assert fix in here[0].fix
    assert all(m.reason and m.fix for m in found)
    assert SECRET not in "".join(map(repr, found))


ALONE = set(TYPOS) - {
    "missing section",  # the network's size is then unknown: fewer other mistakes can be found
    "host without section", "name that is taken",  # their sections are missing, too
    "duplicate label",
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(ALONE))
def test_one_typo_is_one_mistake(tmp_path: Path, name: str) -> None:
    found = mistakes(tmp_path, edit(TYPOS[name][0]))
    assert len(found) == 1, [str(m) for m in found]


def test_all_are_told_at_once(tmp_path: Path) -> None:
    chosen = [
        "unknown key", "key twice", "line before the first section", "comment behind a value",
        "section not listed", "ip outside", "mac multicast", "password in the URL",
        "password in clear text", "token missing", "iqn", "ra_prefix",
    ]  # fmt: skip
    text = edit(*(TYPOS[name][0] for name in chosen))
    found = mistakes(tmp_path, text)
    for name in chosen:
        _, section, key, reason, _ = TYPOS[name]
        assert any((m.section, m.key) == (section, key) and reason in m.reason for m in found), name
    assert len(found) == len(chosen)
    assert [m.section for m in found] == sorted(
        (m.section for m in found), key=["", "zfsiscsi", "storage", "netboot", "pc1", "pc2"].index
    )


def test_message_is_one_line_per_mistake(tmp_path: Path) -> None:
    text = edit(("00:11:22:33:44:01", "00:11:22:33:44"), ("arch = x64", "arch = x_64"))
    with pytest.raises(InvalidConfigError) as caught:
        read(tmp_path, text)
    first, *lines = str(caught.value).split("\n")
    assert first == f"2 mistakes in {tmp_path / 'zfsiscsi.conf'}"
    assert lines == [
        "zfsiscsi.conf [pc1] arch = x_64: must be 'x86' or 'x64'. Fix: did you mean x64?",
        "zfsiscsi.conf [pc1] mac = 00:11:22:33:44: is not a MAC address, six pairs of hex digits. "
        "Fix: write it like this: mac = 00:11:22:33:44:55",
    ]


def test_terminal_tricks_are_not_printed(tmp_path: Path) -> None:
    found = mistakes(tmp_path, edit(("[storage]", "bad\x1b[2Jkey = \x1b[31m\n[storage]")))
    assert "\x1b" not in "".join(map(str, found))


def test_long_values_are_cut(tmp_path: Path) -> None:
    found = mistakes(tmp_path, edit(("snapshot = win10", f"snapshot = {'x' * 500}")))
    assert len(found[0].value) < 100


def test_outlets_of_one_device(tmp_path: Path) -> None:
    one, two = "ipmi://admin@10.98.0.11?outlet=1", "ipmi://admin@10.98.0.11?outlet=2"
    text = edit(("ipmi://admin@10.98.0.11", one), ("ipmi://admin@10.98.0.12", two))
    assert str(read(tmp_path, text).host("pc2").power[0][0]) == two
    ports = edit(("10.98.0.11", "127.0.0.1:6231"), ("10.98.0.12", "127.0.0.1:6232"))
    assert read(tmp_path, ports).host("pc2").power[0][0].port == 6232


def test_two_sections_misspelt(tmp_path: Path) -> None:
    found = mistakes(tmp_path, edit(("[storage]", "[strage]"), ("[netboot]", "[net-boot]")))
    assert [(m.section, m.fix) for m in found] == [
        ("strage", "did you mean [storage]?"),
        ("net-boot", "did you mean [netboot]?"),
    ]


def test_empty_file(tmp_path: Path) -> None:
    assert [m.section for m in mistakes(tmp_path, "")] == ["zfsiscsi", "storage", "netboot"]


def test_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "none.conf", environ={})
    assert "does not exist" in caught.value.what
    assert "--conf" in caught.value.fix


def test_folder_instead_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="can't be read: Is a directory"):
        load(tmp_path, environ={})


def test_file_that_is_not_text(tmp_path: Path) -> None:
    path = tmp_path / "zfsiscsi.conf"
    path.write_bytes(b"[zfsiscsi]\nmachines = pc\xff\n")
    with pytest.raises(ConfigError, match="line 2 is not UTF-8"):
        load(path, environ={})


def test_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "zfsiscsi.conf"
    path.write_text(GOOD, encoding="utf-8-sig")
    with pytest.raises(ConfigError, match="byte order mark") as caught:
        load(path, environ={})
    subprocess.run(caught.value.fix, shell=True, check=True)  # noqa: S602 - the fix must work
    assert load(path, environ={}).hosts


def test_a_host_that_is_reset_at_each_boot_needs_no_power(tmp_path: Path) -> None:
    text = EXAMPLE.read_text().replace("# reset_on = start", "reset_on = boot")
    text = re.sub(r"(?m)^power\w* = .*$", "", text)
    path = tmp_path / "zfsiscsi.conf"
    path.write_text(text)
    (host,) = load(path, environ={}).hosts
    assert (host.reset_on, host.power_urls) == ("boot", ())
    path.write_text(text.replace("reset_on = boot", "reset_on = boot\nprewarm = yes"))
    with pytest.raises(ConfigError, match="no meaning with reset_on = boot"):
        load(path, environ={})
    path.write_text(text.replace("reset_on = boot", "reset_on = start"))
    with pytest.raises(ConfigError, match="power: must be set"):
        load(path, environ={})

"""The example and the manual page can't drift away from the models."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.config import load
from cuckoo_zfsiscsi.config.base import Section
from cuckoo_zfsiscsi.config.host import HostConfig
from cuckoo_zfsiscsi.config.load import FIXED
from cuckoo_zfsiscsi.config.manual import render, written
from cuckoo_zfsiscsi.config.networks import Network
from tests.config.sample import EXAMPLE

ROOT = Path(__file__).parents[2]
SECTIONS: dict[str, type[Section]] = {**FIXED, "pc1": HostConfig}


def keys() -> dict[str, list[tuple[bool, str, str]]]:
    """Return (active, key, value) of each section, commented keys included."""
    found: dict[str, list[tuple[bool, str, str]]] = {}
    section = ""
    for line in EXAMPLE.read_text().splitlines():
        if match := re.fullmatch(r"\[(\S+)\]", line):
            section = match[1]
            found[section] = []
        elif match := re.fullmatch(r"(# )?(\w+) = (.*)", line):
            found[section].append((match[1] is None, match[2], match[3]))
    return found


@pytest.mark.parametrize("section", SECTIONS)
def test_every_key_is_in_the_example_once(section: str) -> None:
    assert sorted(key for _, key, _ in keys()[section]) == sorted(SECTIONS[section].keys())


@pytest.mark.parametrize("section", SECTIONS)
def test_commented_keys_show_the_default_or_an_example(section: str) -> None:
    for active, key, value in keys()[section]:
        info = SECTIONS[section].keys()[key]
        if not active:
            assert not info.is_required(), key
            assert value == (written(info.default) or (info.examples or [""])[0]), key


def test_the_example_is_valid() -> None:
    (host,) = load(EXAMPLE, environ={}).hosts
    assert host.power[0][0].scheme == "ipmi"
    assert host.firmware == "bios"
    active = {key for is_active, key, _ in keys()["pc1"] if is_active}
    assert {"power", "firmware"} <= active


def test_the_example_with_all_keys_active_is_valid(tmp_path: Path) -> None:
    path = tmp_path / "zfsiscsi.conf"
    text = re.sub(r"(?m)^# (\w+ = )", r"\1", EXAMPLE.read_text())
    path.write_text(text.replace("service = http:", "service = https:"))  # what certificate needs
    assert load(path, environ={}).host("pc1").boot_file == "snponly.efi"


def test_the_example_with_another_network_is_valid(tmp_path: Path) -> None:
    text = EXAMPLE.read_text()
    start = text.index("#   [network:vlan20]")
    end = text.index("\n\n", start)
    section = re.sub(r"(?m)^#   ", "", text[start:end])
    assert re.findall(r"(?m)^(\w+) = ", section) == list(Network.keys())
    text = text[:start] + section + text[end:]
    text = text.replace("# network = netboot", "network = vlan20").replace(
        "10.99.0.11", "10.99.20.9"
    )
    path = tmp_path / "zfsiscsi.conf"
    path.write_text(text)
    config = load(path, environ={})
    main, vlan20 = config.networks
    assert config.network_of(config.hosts[0]) == vlan20
    assert (main.name, main.interface, vlan20.interface) == ("netboot", "br-lab", "vlan20")
    assert [str(one.portal_ip) for one in config.networks] == ["10.99.0.1", "10.99.20.1"]


@pytest.mark.parametrize("section", [*SECTIONS, "network:vlan20"])
def test_every_key_is_described(section: str) -> None:
    for key, info in SECTIONS.get(section, Network).keys().items():
        assert info.description, key
        assert info.description.endswith("."), key
        assert info.examples, key


def test_the_manual_page_is_current() -> None:
    page = (ROOT / "docs" / "configuration.rst").read_text()
    assert page == render(), "python -m cuckoo_zfsiscsi.config.manual > docs/configuration.rst"

"""The lines for a site's own DHCP server: inside real ones, asked as by our hosts and by others."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.config import Config
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import NetbootError
from cuckoo_zfsiscsi.netboot import isc, kea
from cuckoo_zfsiscsi.netboot.drivers import SERVERS
from cuckoo_zfsiscsi.netboot.site import KINDS, render_service, render_site
from tests.netboot.conftest import IP1, IP2, MAC1, MAC2, MakeConfig
from tests.netboot.exchange import (
    BIOS,
    FILES,
    HTTP,
    IPXE_CLASS,
    IPXE_FEATURES,
    SCRIPT,
    UEFI7,
    fake_program,
    lease,
)
from tests.netboot.network import DhcpClient, Network, inside
from tests.netboot.sites import SITES, site_server
from tests.waiting import HANG


@pytest.fixture
def config(make_config: MakeConfig) -> Config:
    return make_config("boot0", more="boot_file = snponly.efi", dhcp="external")


@pytest.mark.parametrize("kind", SITES)
def test_our_hosts_boot_and_others_are_left_alone(
    net: Network, client: DhcpClient, config: Config, tmp_path: Path, kind: str
) -> None:
    done = render_site(config, kind, Deadline(HANG))
    assert (done.server, done.unchecked) == (kind, "")
    with site_server(net, tmp_path, kind, done.text):
        for mac, options, ip, file in [
            (MAC1, BIOS, IP1, "undionly.kpxe"),
            (MAC1, UEFI7, IP1, "ipxe.efi"),
            (MAC1, BIOS | IPXE_CLASS | IPXE_FEATURES, IP1, SCRIPT),
            (MAC1, HTTP, IP1, FILES + "ipxe.efi"),
            (MAC2, UEFI7, IP2, "snponly.efi"),
            (MAC2, UEFI7 | IPXE_CLASS, IP2, SCRIPT),
            (MAC2, HTTP, IP2, FILES + "snponly.efi"),
        ]:
            answer = lease(client, mac, options)
            assert (answer.ip, answer.boot_file) == (ip, file), (mac, options)
            assert 3 not in answer.options, "a router"
            if "://" not in file:
                assert answer.server == "10.99.0.1"
            if options.keys() & {175}:
                assert answer.options[175][:3] == b"\xb0\x01\x01"
        other = lease(client, "52:54:00:99:00:77", BIOS)
        assert other.ip.startswith("10.99.0.1")
        assert other.ip not in (IP1, IP2)
        assert other.boot_file == ""
        assert 175 not in other.options


def test_windows_gets_every_host_and_file(config: Config) -> None:
    done = render_site(config, "windows", Deadline(HANG))
    assert "no checker" in done.unchecked
    reserved = re.findall(
        r"Add-DhcpServerv4Reservation .* -IPAddress (\S+) -ClientId '(\S+)'", done.text
    )
    assert reserved == [(IP1, MAC1.replace(":", "-")), (IP2, MAC2.replace(":", "-"))]
    boots = re.findall(r"^Add-Boot '.*?' @\{.*\} @\('(.*)'\) '(.*)'$", done.text, re.MULTILINE)
    first, second = (mac.replace(":", "") for mac in (MAC1, MAC2))
    assert boots == [
        (f"{first}','{second}", SCRIPT),
        (first, FILES + "ipxe.efi"),
        (first, "ipxe.efi"),
        (first, "undionly.kpxe"),
        (second, FILES + "snponly.efi"),
        (second, "snponly.efi"),
        (second, "snponly.efi"),
    ]
    defined = set(re.findall(r"^Add-DhcpServerv4Class -Name '(.*?)'", done.text, re.MULTILINE))
    rules = re.findall(r"@\('(?:EQ|NE)', (.*?)\)", done.text)
    used = {name.rstrip("*") for rule in rules for name in re.findall(r"'(.*?)'", rule)}
    assert used == defined


@pytest.mark.parametrize("kind", ["isc", "kea", "dnsmasq"])
def test_two_hundred_hosts(make_config: MakeConfig, net: Network, kind: str) -> None:
    config = make_config("boot0", dhcp=kind)
    hosts = tuple(
        config.hosts[0].model_copy(
            update={"mac": f"52:54:00:99:00:{n:02x}", "ip": f"10.99.0.{n}", "label": f"p{n}"}
            | ({"boot_file": "snponly.efi"} if n % 2 else {})
        )
        for n in range(2, 202)
    )
    many = config.model_copy(update={"hosts": hosts})
    with inside(net.server):
        for done in (render_service(many, Deadline(HANG)), render_site(many, kind, Deadline(HANG))):
            assert done.unchecked == ""
            assert done.text.count("52:54:00:99:00:") == 200


@pytest.mark.parametrize("kind", ["isc", "kea", "dnsmasq"])
def test_the_checker_has_the_last_word(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    program = KINDS[kind].test[0]
    fake_program(tmp_path, monkeypatch, program, "echo line 7: nonsense >&2; exit 1")
    with pytest.raises(NetbootError, match=f"{program} refuses its configuration: line 7"):
        render_site(config, kind, Deadline(HANG))
    monkeypatch.setattr(shutil, "which", lambda _name, path="": None)
    assert (
        f"{program} is not installed here; apt install"
        in render_site(config, kind, Deadline(HANG)).unchecked
    )


@pytest.mark.parametrize("render", [isc.render, kea.render])
def test_no_value_can_add_a_line(config: Config, render: Callable[[Config], str]) -> None:
    for field, bad in [("boot_file", 'x"; }'), ("mac", "52:54;"), ("label", "a { }")]:
        hosts = (config.hosts[0].model_copy(update={field: bad}),)
        with pytest.raises(NetbootError, match="odd characters"):
            render(config.model_copy(update={"hosts": hosts}))


def test_every_server_that_we_run_can_be_rendered() -> None:
    assert {name for name, kind in KINDS.items() if kind.service} == SERVERS.keys() - {"external"}

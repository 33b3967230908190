"""Who hears of gateway and name servers: of the real servers, as firmware, iPXE and systems ask."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.config import Config, load
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.netboot.drivers import make_netboot
from cuckoo_zfsiscsi.netboot.site import render_service, render_site
from tests.netboot.conftest import HOST, MAC1, MakeConfig
from tests.netboot.exchange import BIOS, HTTP, IPXE_CLASS, IPXE_FEATURES, UEFI7, UEFI9, lease
from tests.netboot.network import (
    DhcpClient,
    Lease,
    Network,
    Options,
    add_wire,
    inside,
    make_network,
)
from tests.netboot.sites import SITES, site_server
from tests.waiting import HANG

KINDS = ("dnsmasq", "isc", "kea")
WINDOWS: Options = {
    55: bytes([1, 3, 6, 15, 31, 33, 43, 44, 46, 47, 119, 121, 249, 252]),
    60: b"MSFT 5.0",
    61: bytes.fromhex("01" + MAC1.replace(":", "")),
}
SYSTEMS: Mapping[str, Options] = {
    "Windows": WINDOWS,
    "udhcpc": {55: bytes([1, 3, 6, 12, 15, 28, 42]), 60: b"udhcp 1.35.0"},
    "dhclient": {55: bytes([1, 28, 2, 3, 15, 6, 119, 12])},
    "networkd": {55: bytes([1, 3, 6, 12, 15, 26, 33, 121]), 61: b"\xff1234\0\x02abcdefgh"},
    "one with another user class": {60: b"MSFT 5.0", 77: b"lab"},
}
STAGES: Mapping[str, Options] = {
    "BIOS": BIOS,
    "UEFI": UEFI7,
    "UEFI, too": UEFI9,
    "UEFI by HTTP": HTTP,
    "another architecture": {60: b"PXEClient:Arch:00011:UNDI:003000", 93: b"\0\x0b"},
    "another one by HTTP": {60: b"HTTPClient:Arch:00019:UNDI:003001", 93: b"\0\x13"},
    "without its architecture": {60: b"PXEClient"},
    "HTTP without it": {60: b"HTTPClient"},
    "without its class": {93: b"\0\0"},
    "iPXE": BIOS | IPXE_CLASS | IPXE_FEATURES,
    "iPXE for UEFI": UEFI7 | IPXE_CLASS | IPXE_FEATURES,
    "iPXE by its class": IPXE_CLASS,
    "iPXE by its features": IPXE_FEATURES,
}
OWN = "gateway = 10.99.0.253\ndns = 9.9.9.9, 10.99.0.53\n"
TOLD = {
    # host: number, its keys, gateway and name servers that its system hears of
    "usual": (3, "", "10.99.0.1", "10.99.0.1"),
    "own": (4, OWN, "10.99.0.253", "9.9.9.9 10.99.0.53"),
    "off": (5, "gateway = off\n", "", ""),
    "names": (6, "gateway = off\ndns = 10.99.0.53\n", "", "10.99.0.53"),
    "nameless": (7, "dns = off\n", "10.99.0.1", ""),
    "agent": (8, OWN + "network_via = agent\n", "", ""),
    "file": (9, OWN + "boot_file = snponly.efi\n", "10.99.0.253", "9.9.9.9 10.99.0.53"),
}
VLAN = """
[network:vlan20]
interface = boot1
address = 10.99.20.1/24
gateway = 10.99.20.254
"""


def mac(number: int) -> str:
    return f"52:54:00:99:00:{number:02x}"


def told(answer: Lease) -> tuple[str, str]:
    """Return gateway and name servers of an answer, each with blanks between."""

    def addresses(option: int) -> str:
        raw = answer.options.get(option, b"")
        return " ".join(socket.inet_ntoa(raw[at : at + 4]) for at in range(0, len(raw), 4))

    return addresses(3), addresses(6)


@pytest.fixture(scope="module")
def wires() -> Iterator[Network]:
    with make_network(f"zr{os.getpid()}") as net:
        add_wire(net)
        yield net


MakeFarm = Callable[..., Config]


@pytest.fixture
def make_farm(make_config: MakeConfig) -> MakeFarm:
    """Return hosts as TOLD has them in one network; with `two`, another in a second one."""

    def make(dhcp: str, more: str = "", *, two: bool = True) -> Config:
        path = make_config("boot0", dhcp=dhcp).path
        text = path.read_text()
        names = [*TOLD, "vlan"] if two else list(TOLD)
        text = text.replace("machines = pc1,pc2", f"machines = {','.join(names)}")
        text = text[: text.index("[pc1]")]
        for name, (number, keys, *_) in TOLD.items():
            text += HOST.format(label=name, ip=f"10.99.0.{number}", mac=mac(number),
                                firmware="uefi", more=keys + more)  # fmt: skip
        if two:
            text += HOST.format(label="vlan", ip="10.99.20.9", mac=mac(32), firmware="bios",
                                more=f"network = vlan20\n{more}") + VLAN  # fmt: skip
        path.write_text(text)
        return load(path, environ={})

    return make


@contextmanager
def served(wires: Network, config: Config) -> Iterator[None]:
    one = make_netboot(config, lambda *_: None)
    with inside(wires.server), closing(one):
        one.open(Deadline(HANG))
        yield


def check_told(client: DhcpClient) -> None:
    """Ask for each host, as every stage and system."""
    for name, (number, _, gateway, dns) in TOLD.items():
        for stage, options in STAGES.items():
            assert told(lease(client, mac(number), options)) == ("", ""), (name, stage)
        for system, options in SYSTEMS.items():
            answer = told(lease(client, mac(number), options))
            assert answer == (gateway, dns), (name, system)


@pytest.mark.parametrize("kind", [*KINDS, "paper"])
def test_the_running_system_hears_of_them_and_nobody_before(
    wires: Network, make_farm: MakeFarm, kind: str
) -> None:
    config = make_farm(kind, two=False)
    client = DhcpClient(wires)
    with client.socket, served(wires, config):
        check_told(client)


@pytest.mark.parametrize("kind", KINDS)
def test_each_network_has_its_own(wires: Network, make_farm: MakeFarm, kind: str) -> None:
    first, second = DhcpClient(wires, "nic0"), DhcpClient(wires, "nic1")
    with first.socket, second.socket, served(wires, make_farm(kind)):
        assert told(lease(first, mac(3), WINDOWS)) == ("10.99.0.1", "10.99.0.1")
        assert told(lease(second, mac(32), WINDOWS)) == ("10.99.20.254", "10.99.20.254")
        assert told(lease(second, mac(32), BIOS | IPXE_CLASS)) == ("", "")


@pytest.mark.parametrize("kind", [*KINDS, "paper"])
def test_who_renews_hears_of_them_again(wires: Network, make_farm: MakeFarm, kind: str) -> None:
    config = make_farm(kind, two=False)
    number, _, *expected = TOLD["own"]
    own, client = f"10.99.0.{number}", DhcpClient(wires)
    wires.run(wires.hosts, f"ip addr replace {own}/24 dev nic0")
    with client.socket, served(wires, config):
        for system in ("Windows", "udhcpc"):
            lease(client, mac(number), SYSTEMS[system])
            for how in ("10.99.0.1", "255.255.255.255"):
                answer = client.renew(mac(number), own, how, SYSTEMS[system])
                assert answer, (system, how)
                assert (answer.kind, answer.ip) == (5, own)
                assert told(answer) == tuple(expected), (system, how)
    wires.run(wires.hosts, f"ip addr del {own}/24 dev nic0")


@pytest.mark.parametrize("kind", SITES)
def test_a_site_s_own_server_tells_the_same(
    wires: Network, make_farm: MakeFarm, tmp_path: Path, kind: str
) -> None:
    done = render_site(make_farm("external", two=False), kind, Deadline(HANG))
    client = DhcpClient(wires)
    with client.socket, site_server(wires, tmp_path, kind, done.text):
        check_told(client)


@pytest.mark.parametrize("kind", KINDS)
def test_hosts_that_are_told_the_same_share_a_rule(
    wires: Network, make_farm: MakeFarm, kind: str
) -> None:
    config = make_farm(kind, two=False)
    one = config.hosts[0]
    many = tuple(
        one.model_copy(update={"label": f"p{n}", "mac": mac(n), "ip": f"10.99.0.{n}"})
        for n in range(2, 102)
    )
    with inside(wires.server):
        text = render_service(config.model_copy(update={"hosts": many}), Deadline(HANG)).text
    assert text.count("52:54:00:99:00:") == 100
    rules = [line for line in text.splitlines() if re.search(r"routers?\b.*10\.99\.0\.1\b", line)]
    rules += re.findall(r'"name": "routers",\s+"data": "10\.99\.0\.1"', text)
    assert len(rules) == 1, rules


def test_a_windows_server_s_policies(make_farm: MakeFarm) -> None:
    text = render_site(make_farm("external"), "windows", Deadline(HANG)).text
    routes = re.findall(r"^Add-Route '(.*?)' @\('(.*?)'\) '(.*?)' @\((.*?)\)$", text, re.MULTILINE)
    cards = {name: mac(number).replace(":", "").upper() for name, (number, *_) in TOLD.items()}
    assert [route[1:] for route in routes] == [
        (cards["usual"], "10.99.0.1", "'10.99.0.1'"),
        (f"{cards['own']}','{cards['file']}", "10.99.0.253", "'9.9.9.9','10.99.0.53'"),
        (cards["names"], "", "'10.99.0.53'"),
        (cards["nameless"], "10.99.0.1", ""),
        (mac(32).replace(":", "").upper(), "10.99.20.254", "'10.99.20.254'"),
    ]
    first, second = text.split("$scope, $server = '10.99.20.0'")
    for part in (first, second):  # a policy's name is its own in its scope
        names = re.findall(r"^Add-(?:Boot|Route) '(.*?)'", part, re.MULTILINE)
        assert len(set(names)) == len(names)
    for name in ("any PXE", "any HTTP"):
        kind = name.split()[1] + "Client"
        assert f"-Name 'zfsiscsi {name}' -Type Vendor -Data '{kind}'" in text
    (rule,) = re.findall(r"-VendorClass @\((.*?)\) -UserClass @\((.*?)\)", text)
    assert rule == ("'NE', 'zfsiscsi any PXE*', 'zfsiscsi any HTTP*'", "'NE', 'zfsiscsi iPXE'")

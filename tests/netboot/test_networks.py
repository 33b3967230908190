"""Two networks at once: against the real servers, and their checkers."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.config import Config, load
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.netboot.drivers import make_netboot
from cuckoo_zfsiscsi.netboot.server import Netboot
from cuckoo_zfsiscsi.netboot.site import render_service, render_site
from tests.netboot.conftest import IP1, MAC1, MAC2, MakeConfig
from tests.netboot.exchange import (
    BIOS,
    FILES,
    HTTP,
    IPXE_CLASS,
    SCRIPT,
    UEFI7,
    Events,
    advertisement,
    lease,
)
from tests.netboot.network import DhcpClient, Network, Request, add_wire, inside, make_network
from tests.waiting import HANG, wait

IP2 = "10.99.20.12"
MORE = """\
network = vlan20
boot_file = snponly.efi

[network:vlan20]
interface = boot1
address = 10.99.20.1/24
ra_prefix = fd99:0:0:20::/64
"""
KINDS = ("dnsmasq", "isc", "kea")


@pytest.fixture(scope="module")
def wires() -> Iterator[Network]:
    with make_network(f"zk{os.getpid()}") as net:
        add_wire(net)
        yield net


@pytest.fixture
def config(make_config: MakeConfig, request: pytest.FixtureRequest) -> Config:
    """pc1 with BIOS in the first, pc2 with UEFI and a file of its own in the second."""
    path = make_config("boot0", dhcp=request.param).path
    path.write_text(path.read_text().replace("ip = 10.99.0.12\n", f"ip = {IP2}\n") + MORE)
    return load(path, environ={})


@pytest.fixture
def server(wires: Network, config: Config, events: Events) -> Iterator[Netboot]:
    one = make_netboot(config, lambda *event: events.append(event))
    with inside(wires.server), closing(one):
        one.open(Deadline(HANG))
        yield one


@pytest.mark.parametrize("config", KINDS, indirect=True)
def test_each_host_is_answered_in_its_own_network_alone(
    wires: Network, server: Netboot, events: Events
) -> None:
    first, second = DhcpClient(wires, "nic0"), DhcpClient(wires, "nic1")
    script = SCRIPT.replace("10.99.0.1", "10.99.20.1")
    files = FILES.replace("10.99.0.1", "10.99.20.1")
    with first.socket, second.socket:
        for client, mac, options, ip, file, own in [
            (first, MAC1, BIOS, IP1, "undionly.kpxe", "10.99.0.1"),
            (first, MAC1, BIOS | IPXE_CLASS, IP1, SCRIPT, "10.99.0.1"),
            (second, MAC2, UEFI7, IP2, "snponly.efi", "10.99.20.1"),
            (second, MAC2, UEFI7 | IPXE_CLASS, IP2, script, "10.99.20.1"),
            (second, MAC2, HTTP, IP2, files + "snponly.efi", "10.99.20.1"),
        ]:
            answer = lease(client, mac, options)
            assert (answer.ip, answer.boot_file) == (ip, file)
            assert answer.options[54] == socket.inet_aton(own)
            assert answer.server == own or "://" in file
            assert 3 not in answer.options
        for client, mac, known in ((first, MAC2, MAC1), (second, MAC1, MAC2)):
            requests: list[Request] = [(mac, 1, BIOS)]
            requests += [(mac, 3, {50: socket.inet_aton(wanted)}) for wanted in (IP1, IP2)]
            assert client.is_ignored(requests, (known, 1, BIOS)), mac
    told = {("pc1", "dhcp"), ("pc2", "dhcp")}
    wait(
        lambda: {event[:2] for event in events} >= told,
        what="not both are told of",
        seen=lambda: events,
    )


@pytest.mark.parametrize("config", ["dnsmasq"], indirect=True)
def test_tftp_and_advertisements_in_both(
    wires: Network, server: Netboot, events: Events, tmp_path: Path
) -> None:
    for number, (address, own) in enumerate([(IP1, "10.99.0.1"), (IP2, "10.99.20.1")]):
        wires.run(wires.hosts, f"ip addr replace {address}/24 dev nic{number}")
        copy = tmp_path / own
        wires.run(wires.hosts, f"busybox tftp -g -r ipxe.efi -l {copy} {own}")
        assert copy.read_bytes() == Path("/usr/lib/ipxe/ipxe.efi").read_bytes()
    told = [("pc1", "tftp"), ("pc2", "tftp")]
    wait(
        lambda: [event[:2] for event in events] == told,
        what="not both are told of",
        seen=lambda: events,
    )
    for name, prefix in (("boot0", "fd99::1/64"), ("boot1", "fd99:0:0:20::1/64")):
        assert prefix in wires.run(wires.server, f"ip -6 addr show dev {name}")
    for card, prefix in (("nic0", "fd99::"), ("nic1", "fd99:0:0:20::")):
        assert socket.inet_pton(socket.AF_INET6, prefix) in advertisement(wires, card)


@pytest.mark.parametrize("config", KINDS, indirect=True)
def test_every_checker_agrees(wires: Network, config: Config) -> None:
    kind = config.netboot.dhcp
    with inside(wires.server):
        deadline = Deadline(HANG)
        for done in (render_service(config, deadline), render_site(config, kind, deadline)):
            assert done.unchecked == ""
            assert "10.99.20.1" in done.text
    windows = render_site(config, "windows", Deadline(HANG)).text
    for line in (
        "$scope, $server = '10.99.0.0', '10.99.0.1'",
        "$scope, $server = '10.99.20.0', '10.99.20.1'",
    ):
        assert line in windows

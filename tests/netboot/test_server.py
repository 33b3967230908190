"""What every DHCP server must do: against the real ones, asked by real and hand-made clients."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from cuckoo_zfsiscsi import environment
from cuckoo_zfsiscsi.config import Config
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import NetbootError
from cuckoo_zfsiscsi.netboot import checker
from cuckoo_zfsiscsi.netboot.drivers import make_netboot
from cuckoo_zfsiscsi.netboot.offences import FLOOD, Offences
from cuckoo_zfsiscsi.netboot.server import Netboot
from cuckoo_zfsiscsi.netboot.watch import Watch
from tests.faults.attacker import discover
from tests.netboot.conftest import IP1, IP2, MAC1, MAC2, MakeConfig
from tests.netboot.exchange import (
    BIOS,
    FILES,
    HTTP,
    IPXE_CLASS,
    IPXE_FEATURES,
    SCRIPT,
    UEFI7,
    UEFI9,
    Events,
    advertisement,
    fake_program,
    lease,
)
from tests.netboot.network import DhcpClient, Network, Request, inside
from tests.waiting import HANG, wait

PROGRAMS = {"dnsmasq": "dnsmasq", "isc": "dhcpd", "kea": "kea-dhcp4"}


@pytest.fixture(params=PROGRAMS)
def config(request: pytest.FixtureRequest, make_config: MakeConfig) -> Config:
    return make_config("boot0", more="boot_file = snponly.efi", dhcp=request.param)


@pytest.fixture
def server(net: Network, config: Config, events: Events) -> Iterator[Netboot]:
    one = make_netboot(config, lambda *event: events.append(event))
    with inside(net.server), closing(one):
        one.open(Deadline(HANG))
        yield one


def pid_file(config: Config) -> Path:
    return config.zfsiscsi.run_dir / f"{PROGRAMS[config.netboot.dhcp]}.pid"


@pytest.mark.usefixtures("server")
def test_boot_file_follows_firmware_and_stage(client: DhcpClient) -> None:
    for options, file in [
        ({}, "undionly.kpxe"),
        (BIOS, "undionly.kpxe"),
        (UEFI7, "ipxe.efi"),
        (UEFI9, "ipxe.efi"),
        (BIOS | IPXE_CLASS, SCRIPT),
        (UEFI7 | IPXE_CLASS, SCRIPT),
        (BIOS | IPXE_FEATURES, SCRIPT),
        (HTTP, FILES + "ipxe.efi"),
    ]:
        answer = lease(client, MAC1, options)
        assert (answer.ip, answer.boot_file) == (IP1, file), options


@pytest.mark.usefixtures("server")
def test_a_host_may_have_its_own_boot_file(client: DhcpClient) -> None:
    for options, file in [
        (UEFI7, "snponly.efi"),
        (UEFI7 | IPXE_CLASS, SCRIPT),
        (HTTP, FILES + "snponly.efi"),
    ]:
        answer = lease(client, MAC2, options)
        assert (answer.ip, answer.boot_file) == (IP2, file)
        assert (answer.options.get(60) == b"HTTPClient") is (options == HTTP)


@pytest.mark.usefixtures("server")
def test_no_router_no_name_server_and_no_wait_for_proxy_dhcp(client: DhcpClient) -> None:
    answer = lease(client, MAC1, BIOS | IPXE_CLASS | IPXE_FEATURES)
    assert not {3, 6, 15} & set(answer.options)
    assert answer.options[1] == socket.inet_aton("255.255.255.0")
    assert answer.options[54] == socket.inet_aton("10.99.0.1")
    assert answer.options[175][:3] == b"\xb0\x01\x01", "no-pxedhcp; an end mark may follow"


@pytest.mark.usefixtures("server")
def test_no_answer_waits(client: DhcpClient) -> None:
    """For a ping, for a disk, for other servers: a boot has four answers, or two, to wait for."""
    times = []
    for _ in range(5):  # the machine's other work only adds to it
        begin = time.monotonic()
        lease(client, MAC1, BIOS)
        lease(client, MAC1, BIOS | IPXE_CLASS | IPXE_FEATURES)
        times.append(time.monotonic() - begin)
    assert min(times) < 1.0, times  # what has none is asked for again after a second


@pytest.mark.usefixtures("server")
def test_unknown_hosts_get_no_answer(client: DhcpClient) -> None:
    """Not even a refusal: they may be another server's on a shared network."""
    stranger = "52:54:00:99:00:77"
    requests: list[Request] = [(stranger, 1, BIOS)]
    others = (IP1, "10.99.0.77", "192.168.1.5")
    requests += [(stranger, 3, {50: socket.inet_aton(wanted)}) for wanted in others]
    assert client.is_ignored(requests, (MAC1, 1, BIOS)), "while known hosts get one"


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("wanted", [IP2, "10.99.0.77", "192.168.1.5"])
def test_a_known_host_that_asks_for_another_address_is_refused(
    config: Config, client: DhcpClient, wanted: str
) -> None:
    """At once, so that it starts anew; silence would cost it seconds."""
    asked = {50: socket.inet_aton(wanted)}
    if config.netboot.dhcp == "isc" and wanted.startswith("192."):
        is_silent = client.is_ignored([(MAC1, 3, asked)], (MAC1, 1, BIOS))
        assert is_silent, "or dhcpd would refuse everyone's, as it can't tell them apart here"
        return
    answer = client.ask(MAC1, 3, asked)
    assert answer
    assert answer.kind == 6


def test_a_new_configuration_drops_no_lease(
    net: Network, config: Config, client: DhcpClient, server: Netboot
) -> None:
    lease(client, MAC1, BIOS)
    third = config.hosts[0].model_copy(
        update={"label": "pc3", "ip": "10.99.0.13", "mac": "52:54:00:99:00:03"}
    )
    more = make_netboot(
        config.model_copy(update={"hosts": (*config.hosts, third)}), lambda *_: None
    )
    server.close()
    with inside(net.server), closing(more):
        more.open(Deadline(HANG))
        again = client.ask(MAC1, 3, {50: socket.inet_aton(IP1)})  # as its OS does: RFC 2131, 4.3.2
        assert again
        assert (again.kind, again.ip) == (5, IP1)
        assert lease(client, third.mac, BIOS).ip == "10.99.0.13"


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo bad option >&2; exit 1", "refuses its configuration: bad option"),
        ("exec sleep 20", "does not end"),
    ],
)
def test_its_checker_goes_first(
    net: Network, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    script: str, reason: str,
) -> None:  # fmt: skip
    if "sleep" in script:
        monkeypatch.setattr(checker, "TIMEOUT", 0.3)
    name = PROGRAMS[config.netboot.dhcp]
    only_tests = f'case "$*" in *-t*) {script} ;; esac; exec {shutil.which(name)} "$@"'
    if name == "dnsmasq":
        only_tests = only_tests.replace("*-t*)", "*--test*)")
    fake_program(tmp_path, monkeypatch, name, only_tests)
    one = make_netboot(config, lambda *_: None)
    with inside(net.server), pytest.raises(NetbootError, match=f"{name} {reason}"):
        one.open(Deadline(HANG))
    assert not one.alive()
    one.close()


def test_a_missing_program_is_named(
    net: Network, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ip", "env", "setpriv"):
        (tmp_path / name).symlink_to(shutil.which(name) or "")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(environment, "_SYSTEM", ())
    one = make_netboot(config, lambda *_: None)
    name = PROGRAMS[config.netboot.dhcp]
    with (
        inside(net.server),
        pytest.raises(NetbootError, match=f"{name} is not installed") as caught,
    ):
        one.open(Deadline(HANG))
    assert caught.value.fix.startswith("apt install ")


@pytest.mark.usefixtures("server")
def test_identity_is_the_mac_whatever_the_client_calls_itself(client: DhcpClient) -> None:
    for identity in (b"\x00rom", b"\x00ipxe", b"\xffwindows"):
        assert lease(client, MAC1, {61: identity}).ip == IP1
    assert lease(client, MAC2, {61: b"\x00rom"}).ip == IP2


@pytest.mark.usefixtures("server")
def test_events_for_known_hosts(
    net: Network, client: DhcpClient, events: Events, tmp_path: Path
) -> None:
    before = time.monotonic()
    lease(client, MAC2, UEFI7)
    wait(lambda: events, what="no event")
    assert events[0][:2] == ("pc2", "dhcp")
    assert before <= events[0][2] <= time.monotonic()
    net.run(net.hosts, f"ip addr replace {IP1}/24 dev nic0")
    copy = tmp_path / "copy"
    net.run(net.hosts, f"busybox tftp -g -r undionly.kpxe -l {copy} 10.99.0.1")
    assert copy.read_bytes() == Path("/usr/lib/ipxe/undionly.kpxe").read_bytes()
    wait(lambda: len(events) == 2, what="no second event", seen=lambda: events)
    assert events[1][:2] == ("pc1", "tftp")


@pytest.mark.usefixtures("server")
def test_a_real_client(net: Network, events: Events, tmp_path: Path) -> None:
    script = tmp_path / "on-lease"
    script.write_text('#!/bin/sh\n[ "$1" = bound ] && env\nexit 0\n')
    script.chmod(0o755)
    net.run(net.hosts, f"ip link set nic0 address {MAC1}")
    shown = net.run(net.hosts, f"busybox udhcpc -i nic0 -s {script} -n -q -f -V MSFT -T 1")
    assert f"ip={IP1}\n" in shown
    assert "router=10.99.0.1\n" in shown
    assert "dns=10.99.0.1\n" in shown
    wait(
        lambda: ("pc1", "dhcp") in [event[:2] for event in events],
        what="no event of pc1",
        seen=lambda: events,
    )


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize(
    "name", ["../../../etc/hostname", "/etc/hostname", "/usr/lib/ipxe/../../../etc/hostname"]
)
def test_tftp_serves_nothing_but_its_folder(net: Network, name: str) -> None:
    net.run(net.hosts, f"ip addr replace {IP1}/24 dev nic0")
    with inside(net.hosts):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sock:
        sock.settimeout(3)
        sock.sendto(b"\0\x01" + name.encode() + b"\0octet\0", ("10.99.0.1", 69))
        assert sock.recv(600)[:2] == b"\0\x05", "an error (RFC 1350)"


@pytest.mark.usefixtures("server")
def test_tftp_takes_nothing(net: Network) -> None:
    net.run(net.hosts, f"ip addr replace {IP1}/24 dev nic0")
    with inside(net.hosts):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sock:
        sock.settimeout(3)
        sock.sendto(b"\0\x02new\0octet\0", ("10.99.0.1", 69))
        assert sock.recv(600)[:2] == b"\0\x05", "an error (RFC 1350)"


@pytest.mark.usefixtures("server")
def test_router_advertisement_of_nobody_s_router(net: Network) -> None:
    packet = advertisement(net, "nic0")
    assert packet[6:8] == b"\0\0", "router lifetime"
    assert socket.inet_pton(socket.AF_INET6, "fd99::") in packet


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("how", ["own", "made-up"])
def test_a_flood_is_seen_whoever_answers_it(
    net: Network, config: Config, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    own = bytes.fromhex(MAC1.replace(":", ""))
    with inside(net.server):
        watch = Watch("boot0", lambda: config.netboot.tftp_root, Offences(config.hosts))
        watch.open()
    with inside(net.hosts), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
        wire.bind(("nic0", 0))
        for number in range(2 * FLOOD):
            card = own if how == "own" else bytes([2, 0, 0, 0, 0, number])
            wire.send(discover(card, own))
    who = "" if how == "own" else " under made-up addresses"
    line = f"pc1 ({MAC1}) floods DHCP{who}: {FLOOD} requests in 10 s"
    wait(lambda: line in caplog.messages, what="not in the log", seen=lambda: caplog.messages)
    watch.close()


def test_runs_without_root(server: Netboot, config: Config) -> None:
    assert server.alive()
    pid = pid_file(config).read_text().strip()
    status = Path(f"/proc/{pid}/status").read_text()
    assert "\nUid:\t0\t" not in status


def test_death_is_seen_and_a_second_start_works(server: Netboot, config: Config) -> None:
    os.kill(int(pid_file(config).read_text()), signal.SIGKILL)
    wait(lambda: not server.alive(), what="it lives on")
    server.open(Deadline(HANG))
    assert server.alive()
    server.close()
    server.close()
    assert not server.alive()


def test_a_left_over_is_replaced(
    net: Network, config: Config, client: DhcpClient, server: Netboot
) -> None:
    later = make_netboot(config, lambda *_: None)
    with inside(net.server), closing(later):
        later.open(Deadline(HANG))
        wait(lambda: not server.alive(), what="it lives on")
        assert lease(client, MAC1, BIOS).ip == IP1


def test_another_dhcp_server_in_the_way(net: Network, config: Config) -> None:
    one = make_netboot(config, lambda *_: None)
    with (
        inside(net.server),
        closing(one),
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other,
    ):
        other.bind(("", 67))
        with pytest.raises(NetbootError, match="Address already in use") as caught:
            one.open(Deadline(HANG))
        assert not one.alive()
    assert "ss -lunp" in caught.value.fix


def test_threads_end(server: Netboot) -> None:
    before = threading.active_count()
    server.close()
    wait(lambda: threading.active_count() < before, what="all threads go on")

"""Against a real dnsmasq, asked by real and by hand-made clients."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.config import Config
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import NetbootError
from cuckoo_zfsiscsi.netboot import address, dnsmasq
from cuckoo_zfsiscsi.netboot.address import ensure_addresses
from cuckoo_zfsiscsi.netboot.dnsmasq import Dnsmasq, render
from tests.netboot.conftest import IP1, IP2, MAC1, MAC2, MakeConfig
from tests.netboot.network import DhcpClient, Lease, Network, Options, inside, make_network

IPXE_CLASS: Options = {77: b"iPXE"}
IPXE_FEATURES: Options = {175: b"\xeb\x03\x01\x00\x00"}
BIOS: Options = {60: b"PXEClient:Arch:00000:UNDI:002001", 93: b"\0\0"}
UEFI7: Options = {60: b"PXEClient:Arch:00007:UNDI:003000", 93: b"\0\x07"}
UEFI9: Options = {60: b"PXEClient:Arch:00009:UNDI:003000", 93: b"\0\x09"}
SCRIPT = "http://10.99.0.1:8471/boot.ipxe?mac=${netX/mac}"

Events = list[tuple[str, str, float]]


@pytest.fixture(scope="module")
def net() -> Iterator[Network]:
    with make_network(f"zi{os.getpid()}") as network:
        yield network


@pytest.fixture(scope="module")
def client(net: Network) -> Iterator[DhcpClient]:
    one = DhcpClient(net)
    yield one
    one.socket.close()


@pytest.fixture
def events() -> Events:
    return []


@pytest.fixture
def config(make_config: MakeConfig) -> Config:
    return make_config("boot0", more="boot_file = snponly.efi")


@pytest.fixture
def server(net: Network, config: Config, events: Events) -> Iterator[Dnsmasq]:
    one = Dnsmasq(config, lambda *event: events.append(event))
    with inside(net.server):
        one.open(Deadline(10))
        yield one
        one.close()


def wait(condition: Callable[[], object], seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.01)


def fake_program(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, script: str) -> None:
    """Put a shell script before the real program."""
    program = folder / "bin" / name
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")


def lease(client: DhcpClient, mac: str, options: Options) -> Lease:
    """Go through all four packets."""
    offer = client.ask(mac, 1, options)
    assert offer
    assert offer.kind == 2
    wanted = {50: socket.inet_aton(offer.ip), 54: offer.options[54]}
    ack = client.ask(mac, 3, {**options, **wanted})
    assert ack
    assert ack.kind == 5
    return ack


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
    ]:
        answer = lease(client, MAC1, options)
        assert (answer.ip, answer.boot_file) == (IP1, file), options


@pytest.mark.usefixtures("server")
def test_a_host_may_have_its_own_boot_file(client: DhcpClient) -> None:
    for options, file in [(UEFI7, "snponly.efi"), (UEFI7 | IPXE_CLASS, SCRIPT)]:
        answer = lease(client, MAC2, options)
        assert (answer.ip, answer.boot_file) == (IP2, file)


@pytest.mark.usefixtures("server")
def test_no_router_no_name_server_and_no_wait_for_proxy_dhcp(client: DhcpClient) -> None:
    answer = lease(client, MAC1, BIOS | IPXE_CLASS | IPXE_FEATURES)
    assert not {3, 6, 15} & set(answer.options)
    assert answer.options[1] == socket.inet_aton("255.255.255.0")
    assert answer.options[54] == socket.inet_aton("10.99.0.1")
    assert answer.options[175] == b"\xb0\x01\x01\xff"


@pytest.mark.usefixtures("server")
def test_unknown_hosts_get_no_answer(client: DhcpClient) -> None:
    assert client.ask("52:54:00:99:00:77", 1, BIOS, patience=1) is None
    wanted = {50: socket.inet_aton(IP1)}
    answer = client.ask("52:54:00:99:00:77", 3, wanted, patience=1)
    assert answer is None or answer.kind == 6
    assert client.ask(MAC1, 1, BIOS), "while known hosts get one"


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
    wait(lambda: events)
    assert events[0][:2] == ("pc2", "dhcp")
    assert before <= events[0][2] <= time.monotonic()
    net.run(net.hosts, f"ip addr replace {IP1}/24 dev nic0")
    copy = tmp_path / "copy"
    net.run(net.hosts, f"busybox tftp -g -r undionly.kpxe -l {copy} 10.99.0.1")
    assert copy.read_bytes() == Path("/usr/lib/ipxe/undionly.kpxe").read_bytes()
    wait(lambda: len(events) == 2)
    assert events[1][:2] == ("pc1", "tftp")


@pytest.mark.usefixtures("server")
def test_a_real_client(net: Network, events: Events, tmp_path: Path) -> None:
    script = tmp_path / "on-lease"
    script.write_text('#!/bin/sh\n[ "$1" = bound ] && env\nexit 0\n')
    script.chmod(0o755)
    net.run(net.hosts, f"ip link set nic0 address {MAC1}")
    shown = net.run(net.hosts, f"busybox udhcpc -i nic0 -s {script} -n -q -f -V MSFT -T 1")
    assert f"ip={IP1}\n" in shown
    assert "router=" not in shown
    assert "dns=" not in shown
    wait(lambda: ("pc1", "dhcp") in [event[:2] for event in events])


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
    with inside(net.hosts):
        sock = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
    with sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"nic0")
        sock.settimeout(5)
        with inside(net.hosts):
            index = socket.if_nametoindex("nic0")
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
        sock.sendto(bytes([133, 0, 0, 0, 0, 0, 0, 0]), ("ff02::2", 0, 0, index))
        while True:
            packet = sock.recv(1500)
            if packet[0] == 134:
                break
    assert packet[6:8] == b"\0\0", "router lifetime"
    assert socket.inet_pton(socket.AF_INET6, "fd99::") in packet


def test_serves_only_its_interface(net: Network, server: Dnsmasq) -> None:
    assert server.alive()
    sockets = net.run(net.server, "ss -lntu")
    assert ":53 " not in sockets
    assert "127.0.0.1:" not in sockets


def test_runs_without_root(server: Dnsmasq, config: Config) -> None:
    assert server.alive()
    pid = (config.zfsiscsi.run_dir / "dnsmasq.pid").read_text().strip()
    status = Path(f"/proc/{pid}/status").read_text()
    assert "\nUid:\t0\t" not in status


def test_the_address_for_advertisements_is_added_once(
    net: Network, config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "cuckoo_zfsiscsi.netboot.address")
    net.run(net.server, "ip -6 addr flush dev boot0 scope global")
    with inside(net.server):
        for _ in range(2):
            ensure_addresses(config.netboot)
    assert [line for line in caplog.messages if "fd99::1/64" in line] == [
        "boot0: added the address fd99::1/64, for router advertisements"
    ]
    assert "fd99::1/64" in net.run(net.server, "ip -6 addr show dev boot0")


def test_without_advertisements(net: Network, make_config: MakeConfig) -> None:
    config = make_config("boot0", ra_prefix="off")
    assert "enable-ra" not in render(config)
    one = Dnsmasq(config, lambda *_: None)
    with inside(net.server):
        one.open(Deadline(10))
    one.close()


def test_death_is_seen_and_a_second_start_works(server: Dnsmasq, config: Config) -> None:
    os.kill(int((config.zfsiscsi.run_dir / "dnsmasq.pid").read_text()), signal.SIGKILL)
    wait(lambda: not server.alive())
    server.open(Deadline(10))
    assert server.alive()
    server.close()
    server.close()
    assert not server.alive()


def test_a_left_over_is_replaced(
    net: Network, config: Config, client: DhcpClient, server: Dnsmasq
) -> None:
    with inside(net.server):
        later = Dnsmasq(config, lambda *_: None)
        later.open(Deadline(10))
    wait(lambda: not server.alive())
    assert lease(client, MAC1, BIOS).ip == IP1
    later.close()


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
            one.open(Deadline(10))
    assert fix in caught.value.fix
    assert not one.alive()
    assert not (tmp_path / "dnsmasq.conf").exists()


def test_another_dhcp_server_in_the_way(net: Network, config: Config) -> None:
    one = Dnsmasq(config, lambda *_: None)
    with inside(net.server), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("", 67))
        with pytest.raises(NetbootError, match="Address already in use") as caught:
            one.open(Deadline(10))
    assert "ss -lunp" in caught.value.fix
    assert not one.alive()


def test_no_tftp_root(net: Network, make_config: MakeConfig) -> None:
    one = Dnsmasq(make_config("boot0", tftp_root="/nonexistent"), lambda *_: None)
    with inside(net.server), pytest.raises(NetbootError, match="/nonexistent") as caught:
        one.open(Deadline(5))
    assert caught.value.fix == "apt install ipxe"


def test_programs_missing(
    net: Network, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    one = Dnsmasq(config, lambda *_: None)
    with inside(net.server):
        with pytest.raises(NetbootError, match="ip is not installed"):
            one.open(Deadline(5))
        (folder / "ip").symlink_to("/usr/bin/ip")
        with pytest.raises(NetbootError, match="dnsmasq is not installed") as caught:
            one.open(Deadline(5))
    assert caught.value.fix == "apt install dnsmasq-base"


def test_ip_that_hangs(
    net: Network, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_program(tmp_path, monkeypatch, "ip", "exec sleep 20")
    monkeypatch.setattr(address, "TIMEOUT", 0.3)
    with inside(net.server), pytest.raises(NetbootError, match="does not end"):
        ensure_addresses(config.netboot)


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo bad option >&2; exit 1", "refuses its configuration .*: bad option"),
        ("exec sleep 20", "does not end"),
    ],
)
def test_dnsmasq_does_not_like_it(
    net: Network, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    script: str, reason: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(dnsmasq, "TEST_TIMEOUT", 0.3)
    fake_program(tmp_path, monkeypatch, "dnsmasq", script)
    one = Dnsmasq(config, lambda *_: None)
    with inside(net.server), pytest.raises(NetbootError, match=reason):
        one.open(Deadline(5))


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
    subprocess.run(["dnsmasq", "--test", f"--conf-file={file}"], check=True, timeout=10)


def test_threads_end(server: Dnsmasq) -> None:
    before = threading.active_count()
    server.close()
    wait(lambda: threading.active_count() < before)

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.config import Config, load
from tests.netboot.exchange import Events
from tests.netboot.network import DhcpClient, Network, make_network

HOST = """
[{label}]
label = {label}
platform = linux
arch = x64
ip = {ip}
mac = {mac}
firmware = {firmware}
snapshot = lab
power = ipmi://admin@bmc-{label}
{more}
"""

CONF = """
[zfsiscsi]
machines = pc1,pc2
interface = {interface}
service = unix://{run_dir}/api.sock
run_dir = {run_dir}

[storage]
path = {run_dir}/store
portal = 10.99.0.1
iqn = iqn.2026-01.org.example

[netboot]
interface = {interface}
address = 10.99.0.1/24
ra_prefix = {ra_prefix}
tftp_root = {tftp_root}
dhcp = {dhcp}
"""

MAC1, MAC2 = "52:54:00:99:00:01", "52:54:00:99:00:02"
IP1, IP2 = "10.99.0.11", "10.99.0.12"

MakeConfig = Callable[..., Config]
_numbers = itertools.count(1)


@pytest.fixture
def make_config(tmp_path: Path) -> MakeConfig:
    """Two hosts: pc1 with BIOS, pc2 with UEFI and whatever `more` says."""

    def _make(
        interface: str = "lo",
        ra_prefix: str = "fd99::/64",
        tftp_root: str = "/usr/lib/ipxe",
        more: str = "",
        dhcp: str = "dnsmasq",
    ) -> Config:
        text = CONF.format(
            interface=interface,
            run_dir=tmp_path,
            ra_prefix=ra_prefix,
            tftp_root=tftp_root,
            dhcp=dhcp,
        )
        text += HOST.format(label="pc1", ip=IP1, mac=MAC1, firmware="bios", more="")
        text += HOST.format(label="pc2", ip=IP2, mac=MAC2, firmware="uefi", more=more)
        path = tmp_path / "zfsiscsi.conf"
        path.write_text(text)
        path.chmod(0o600)
        return load(path, environ={})

    return _make


@pytest.fixture(scope="module")
def net() -> Iterator[Network]:
    with make_network(f"zi{os.getpid()}n{next(_numbers)}") as network:
        yield network


@pytest.fixture(scope="module")
def client(net: Network) -> Iterator[DhcpClient]:
    one = DhcpClient(net)
    yield one
    one.socket.close()


@pytest.fixture
def events() -> Events:
    return []

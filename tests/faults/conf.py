"""The zfsiscsi.conf of a service and its hosts, in a network of their own under one directory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ipaddress import IPv4Address
from pathlib import Path

from cuckoo_zfsiscsi.lab.network import BRIDGE, SERVER, host_address, mac
from tests.faults.patience import SERVICE

PASSWORD = "bmc-password"
HEAD = """\
[zfsiscsi]
machines = {labels}
interface = {bridge}
service = unix://{at}/api.sock
run_dir = {at}/run
start_timeout = {start_timeout}
stop_timeout = {stop_timeout}

[storage]
path = {at}/store
portal = {server}
iqn = iqn.2026-01.org.example

[netboot]
interface = {bridge}
address = {server}/24
ra_prefix = fd99::/64
"""
HOST = """
[{label}]
label = {label}
platform = linux
arch = x64
ip = {ip}
snapshot = golden
mac = {mac}
firmware = bios
power = {power}
power_password_file = {at}/bmc.password
post_time = 0
"""


def write(
    at: Path,
    power: Mapping[int, str],
    *,
    stop_timeout: float = SERVICE,
    address: Callable[[int], IPv4Address] = host_address,
    networks: str = "",
    **keys: object,
) -> Path:
    """Write the file, and that of the password for power; return its path.

    Args:
        at: the directory.
        power: URL of each host's power device, by the host's number in the lab's network.
        stop_timeout: seconds that a stop may take.
        address: of a host, by its number.
        networks: sections of further networks.
        keys: more of each host's section.
    """
    password = at / "bmc.password"
    password.touch(0o600)
    password.write_text(f"{PASSWORD}\n")
    labels = [f"pc{number}" for number in power]
    text = HEAD.format(
        labels=",".join(labels),
        bridge=BRIDGE,
        server=SERVER.ip,
        at=at,
        start_timeout=SERVICE,
        stop_timeout=stop_timeout,
    )
    text += networks
    for label, (number, url) in zip(labels, power.items(), strict=True):
        host = {"label": label, "ip": address(number), "mac": mac(number), "power": url}
        text += HOST.format(at=at, **host)
        text += "".join(f"{key} = {value}\n" for key, value in keys.items())
    path = at / "zfsiscsi.conf"
    path.write_text(text)
    return path

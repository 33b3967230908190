"""The lab's zfsiscsi.conf: the storage server's own, and CAPE's copy of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cuckoo_zfsiscsi.lab import network as net
from cuckoo_zfsiscsi.lab.cape_standin import TIMEOUTS
from cuckoo_zfsiscsi.lab.qemu import Firmware
from cuckoo_zfsiscsi.lab.way import DEFAULT, Way

LABEL = "pc1"
"""Of the first host, which is the only one as a rule."""
BOOT_TIMEOUT, START_TIMEOUT = 600, 670
"""Seconds: a boot takes its time without KVM, on busy processors."""
CAPE_TIMEOUTS = {**TIMEOUTS, "vm_state": 660}
"""CAPE's own, which hold both."""
IMAGE = "golden"
POOL = "tank"
FILES = """\
path = {at}/store
"""
ZFS = f"""\
store = zfs
pool = {POOL}
target = lio
"""
CONF = """\
[zfsiscsi]
machines = {machines}
interface = {bridge}
service = {service}
{token}
start_timeout = {start_timeout}
run_dir = {run_dir}

[storage]
{storage}portal = {server.ip}
iqn = iqn.2026-01.org.example.lab

[netboot]
interface = {interface}
address = {server}
ra_prefix = {ra_prefix}
dhcp = {dhcp}
{way_out}
"""
CLOSED = "gateway = off"
"""There is none."""
HOST = """\

[{label}]
label = {label}
platform = linux
arch = x64
ip = {ip}
snapshot = {image}
mac = {mac}
{way}
{power}
power_password_file = {password_file}
power_interval = 0.2
power_timeout = 120
boot_timeout = {boot_timeout}
reset = {reset}
prewarm = {prewarm}
network_via = {network_via}
"""


@dataclass(frozen=True)
class Host:
    """What one of the lab's hosts is like."""

    prewarm: bool = False
    """The service boots the clean host while it is idle."""
    reset: Literal["swap", "rollback"] = "swap"
    """How a clean disk is put in place, with ZFS."""
    qemu: Sequence[str] = ()
    """More arguments for QEMU."""


def label(number: int) -> str:
    """Label of host 1, 2, ..."""
    return f"pc{number}"


def render(
    *,
    service: str,
    token_file: Path | None,
    run_dir: Path,
    storage: str,
    interface: str,
    firmware: Firmware,
    power: str,
    password_file: Path,
    prewarm: bool,
    way: Way = DEFAULT,
    way_out: str = CLOSED,
    network_via: Literal["dhcp", "agent"] = "dhcp",
    more: Sequence[tuple[Host, str]] = (),
) -> str:
    """Return the text of one configuration.

    Args:
        service: URL at which its reader listens for, or finds, the service.
        token_file: with the token for it.
        run_dir: of the service.
        storage: FILES or ZFS, filled in.
        interface: the server's, towards the hosts.
        firmware: of the hosts.
        power: lines that say how the first host is switched.
        password_file: with the power devices' password.
        prewarm: the service boots the first host, clean, while it is idle.
        way: how the hosts come to their boot script.
        way_out: lines that say what their systems are told of the way out.
        network_via: how they are told.
        more: the hosts after the first, and lines that say how each is switched.
    """
    hosts = [(Host(prewarm), power), *more]
    text = CONF.format(
        machines=", ".join(label(number) for number in range(1, len(hosts) + 1)),
        bridge=net.BRIDGE,
        server=net.SERVER,
        ra_prefix=net.RA_PREFIX,
        service=service,
        token=f"token_file = {token_file}" if token_file else "",
        start_timeout=START_TIMEOUT,
        run_dir=run_dir,
        storage=storage,
        interface=interface,
        dhcp=way.dhcp,
        way_out=way_out,
    )
    for number, (host, keys) in enumerate(hosts, 1):
        text += HOST.format(
            label=label(number),
            image=IMAGE,
            ip=net.host_address(number),
            mac=net.mac(number),
            way=way.keys(firmware),
            power=keys,
            password_file=password_file,
            boot_timeout=BOOT_TIMEOUT,
            reset=host.reset,
            prewarm="yes" if host.prewarm else "no",
            network_via=network_via,
        )
    return text

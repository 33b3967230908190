"""A network of a test's own: real interfaces, nftables, iptables and sysctl, that nobody shares."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

CLONE_NEWNET = 0x40000000


class Namespace:
    """The network namespace that the test is in."""

    def __init__(self) -> None:
        self.run("ip link set lo up")

    def run(self, command: str) -> None:
        subprocess.run(command.split(), check=True, capture_output=True)

    def add(self, interface: str, *addresses: str) -> None:
        self.run(f"ip link add {interface} type bridge")
        for address in addresses:
            self.run(f"ip address add {address} dev {interface}")
        self.run(f"ip link set {interface} up")

    def protect(self) -> None:
        """Load what zfsiscsi-firewall loads, as far as it is looked for."""
        self.run("nft add table inet zfsiscsi")
        self.run("iptables -N zfsiscsi")
        self.run("iptables -I OUTPUT -j zfsiscsi")

    def forward(self) -> None:
        self.run("sysctl -w net.ipv4.ip_forward=1")


@contextmanager
def enter() -> Iterator[Namespace]:
    """Leave this thread in a new network; what it starts is there, too."""
    libc = ctypes.CDLL(None, use_errno=True)
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    assert libc.unshare(CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
    try:
        yield Namespace()
    finally:
        assert libc.setns(before, CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
        os.close(before)

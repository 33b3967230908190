"""The lab's networks: namespaces of their own, so that no packet leaves and all goes with them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Interface, IPv6Network
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from cuckoo_zfsiscsi.errors import LabError
from cuckoo_zfsiscsi.lab.command import HANG, run

BRIDGE = "boot0"
SERVER = IPv4Interface("10.99.0.1/24")
BMCS = IPv4Network("10.98.0.0/24")
"""Addresses of the BMCs, on the server's loopback interface."""
OBSERVER = IPv4Interface("10.99.0.254/24")
"""The lab's own programs, where the server is a machine beside them."""
SERVER6 = IPv6Interface("fd99::1/64")
RA_PREFIX = IPv6Network("fd99::/64")
FOLDER = Path("/run/netns")
TIMEOUT = HANG
"""Seconds for one call of ip."""

N = TypeVar("N", bound="Namespace")


def host_address(number: int) -> IPv4Address:
    """Address that host 1, 2, ... gets on the boot network."""
    return SERVER.network.network_address + 10 + number


def bmc_address(number: int) -> IPv4Address:
    """Address of the BMC of host 1, 2, ..."""
    return BMCS.network_address + 10 + number


def mac(number: int) -> str:
    """MAC of host 1, 2, ... (52:54:00 is QEMU's)."""
    return f"52:54:00:99:00:{number:02x}"


def tap(number: int) -> str:
    """Port of the bridge that host 1, 2, ... is plugged into."""
    return f"tap{number}"


class Namespace:
    """A network namespace. What runs in it is the lab's and is ended when it is removed.

    Args:
        name: several labs live side by side under different names.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def prefix(self) -> list[str]:
        """What to put before a program's argv: it becomes that program, inside (`nsenter`).

        Not `ip netns exec`: that hides later mounts from the program.
        """
        return ["nsenter", f"--net={FOLDER / self.name}", "--"]

    def run(self, argv: Sequence[str], *, timeout: float = TIMEOUT) -> str:
        """Run a program inside to its end; return what it printed.

        Raises:
            LabError: it failed or took too long.
        """
        return run([*self.prefix, *argv], timeout=timeout)

    def __enter__(self: N) -> N:
        try:
            self.up()
        except BaseException:
            self.down()
            raise
        return self

    def __exit__(
        self, _t: type[BaseException] | None, _e: BaseException | None, _b: TracebackType | None
    ) -> None:
        self.down()

    def up(self) -> None:
        """Make it.

        Raises:
            LabError: not root, or the name is taken.
        """
        if os.geteuid() != 0:
            raise LabError("the lab's network needs root", fix="sudo scripts/lab")
        run(["ip", "netns", "add", self.name], timeout=TIMEOUT)
        self.ip("link set lo up")

    def ip(self, *commands: str) -> None:
        """Have ip do something inside, all in one call of it.

        Raises:
            LabError: it can't.
        """
        ip = ["ip", "-netns", self.name, "-batch", "-"]
        run(ip, stdin="\n".join(commands).encode() + b"\n", timeout=TIMEOUT)

    def down(self) -> None:
        """End what runs in it, remove it. Works on a half-made one and on none.

        Raises:
            LabError: a process in it survives SIGKILL.
        """
        if not (FOLDER / self.name).exists():
            return
        end = time.monotonic() + TIMEOUT
        while pids := self.pids():
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if time.monotonic() > end:
                raise LabError(f"in the lab's network can't be killed: {_named(pids[0])}")
            time.sleep(0.02)
        run(["ip", "netns", "delete", self.name], timeout=TIMEOUT)

    def pids(self) -> list[int]:
        """Return the processes inside."""
        done = subprocess.run(
            ["ip", "netns", "pids", self.name],
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        return [int(pid) for pid in done.stdout.split()]


class Network(Namespace):
    """The hosts' network: a bridge, one port per host, and an address per BMC.

    Args:
        name: of the namespace.
        hosts: how many.
        is_server: what runs in it is the storage server; else there is room for one beside it.
    """

    def __init__(self, name: str = "", *, hosts: int = 1, is_server: bool = True) -> None:
        super().__init__(name or f"zfsiscsi-lab-{os.getpid()}")
        self.hosts = hosts
        self.is_server = is_server

    def up(self) -> None:
        """Make it.

        Raises:
            LabError: not root, or the name is taken.
        """
        super().up()
        commands = [
            f"link add {BRIDGE} type bridge stp_state 0 forward_delay 0",
            *(f"addr add {address}" for address in self._addresses()),
            f"link set {BRIDGE} up",
            # A port that is always up: with every host off, the bridge would lose its carrier
            "link add keep0 type veth peer name keep1",
            f"link set keep0 master {BRIDGE} up",
            "link set keep1 up",
        ]
        for number in range(1, self.hosts + 1):
            commands += [
                f"tuntap add {tap(number)} mode tap",
                f"link set {tap(number)} master {BRIDGE} up",
                f"addr add {bmc_address(number)}/32 dev lo",
            ]
        self.ip(*commands)

    def _addresses(self) -> list[str]:
        if self.is_server:
            return [f"{SERVER} dev {BRIDGE}", f"{SERVER6} dev {BRIDGE} nodad"]
        return [f"{OBSERVER} dev {BRIDGE}"]


def _named(pid: int) -> str:
    """Return a process with its name and state (proc(5)): "process 7 (qemu) D"."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return f"process {pid}"
    return f"process {stat[: stat.rindex(')') + 3]}"

"""The power devices that the lab can put in front of its host, and how a configuration names them.

Each is one or two programs in the lab's network, as hardware beside the host would be.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal, Protocol

from cuckoo_zfsiscsi.daemon import Daemon
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import LabError
from cuckoo_zfsiscsi.lab import certificate
from cuckoo_zfsiscsi.lab import network as net
from cuckoo_zfsiscsi.lab.bmc import Bmc
from cuckoo_zfsiscsi.lab.command import HANG, run
from cuckoo_zfsiscsi.lab.logged import Logged
from cuckoo_zfsiscsi.lab.machine import Machine
from cuckoo_zfsiscsi.lab.redfish import SYSTEM, write_users

Kind = Literal["ipmi", "redfish", "wol"]
HTTPS, HTTP = 443, 80


class Device(Protocol):
    """What switches the host."""

    @property
    def keys(self) -> str:
        """Lines of a host's section in zfsiscsi.conf."""
        ...

    def start(self) -> None:
        """Start it; return when it answers.

        Raises:
            LabError, DeadlineExceededError: it does not.
        """
        ...

    def stop(self) -> None:
        """End it. The host stays as it is."""
        ...


def make(
    kind: Kind, machine: Machine, network: net.Network, password: str, *, number: int = 1
) -> Device:
    """Return the device of host 1, 2, ..., not started yet."""
    if kind == "redfish":
        return Redfish(machine, number, network, password)
    if kind == "wol":
        return WakeAndPlug(machine, number, network)
    return Ipmi(Bmc(machine, number, network, password=password))


class Ipmi:
    """Implements Device: OpenIPMI's ipmi_sim."""

    def __init__(self, bmc: Bmc) -> None:
        self._bmc = bmc

    @property
    def keys(self) -> str:
        """As Device has it."""
        return f"power = {self._bmc.url}"

    def start(self) -> None:
        """As Device has it."""
        self._bmc.start()

    def stop(self) -> None:
        """As Device has it."""
        self._bmc.stop()


class Redfish:
    """Implements Device: sushy-tools' emulator, with a certificate that nobody signed."""

    def __init__(self, machine: Machine, number: int, network: net.Network, password: str) -> None:
        self._folder = machine.state / "redfish"
        self._address = str(net.bmc_address(number))
        self._network = network
        self._password = password
        self._fingerprint = ""
        self._daemon = _daemon(network, self._folder, "redfish", self._address, str(HTTPS))

    @property
    def keys(self) -> str:
        """As Device has it."""
        url = f"redfish://admin@{self._address}?system={SYSTEM}&boot=network"
        return f"power = {url}&fingerprint={self._fingerprint}"

    def start(self) -> None:
        """As Device has it."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        write_users(self._folder / "users", "admin", self._password)
        self._fingerprint = certificate.make(self._folder, f"IP:{self._address}")
        listens = partial(_listens, self._network, self._address, HTTPS)
        self._daemon.start(Deadline(HANG), listens)

    def stop(self) -> None:
        """As Device has it."""
        self._daemon.stop(Deadline(5.0))


class WakeAndPlug:
    """Implements Device: a host without a BMC, woken by its network card, cut by a smart plug."""

    def __init__(self, machine: Machine, number: int, network: net.Network) -> None:
        self._network = network
        self._folder = machine.state / "plug"
        self._address = str(net.bmc_address(number))
        self._plug = _daemon(network, self._folder, "plug", self._address, str(HTTP))
        self._wake = _daemon(network, self._folder, "wake", net.BRIDGE, net.mac(number))

    @property
    def keys(self) -> str:
        """As Device has it."""
        wake = f"power_on = wol://{net.SERVER.network.broadcast_address}"
        return f"{wake}\npower_off = pdu+shelly_gen2://{self._address}?outlet=0"

    def start(self) -> None:
        """As Device has it."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._plug.start(Deadline(HANG), partial(_listens, self._network, self._address, HTTP))
        self._wake.start(Deadline(HANG), (self._folder / "wake-ready").exists)

    def stop(self) -> None:
        """As Device has it."""
        self._plug.stop(Deadline(5.0))
        self._wake.stop(Deadline(5.0))


def _daemon(network: net.Network, folder: Path, module: str, *words: str) -> Daemon:
    argv: Sequence[str] = [sys.executable, "-m", f"cuckoo_zfsiscsi.lab.{module}", str(folder)]
    return Logged(
        [*network.prefix, *argv, *words],
        folder / f"{module}.log",
        folder / f"{module}.pid",
        name=module,
    )


def _listens(network: net.Network, address: str, port: int) -> bool:
    with contextlib.suppress(LabError):
        argv = [*network.prefix, "ss", "-Hltn", f"src {address}:{port}"]
        return bool(run(argv, timeout=20.0).strip())
    return False

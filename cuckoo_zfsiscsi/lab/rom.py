"""Runs lab.plain_rom for one machine."""

from __future__ import annotations

import sys
from types import TracebackType

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.lab import network as net
from cuckoo_zfsiscsi.lab.command import HANG
from cuckoo_zfsiscsi.lab.logged import Logged
from cuckoo_zfsiscsi.lab.machine import Machine
from cuckoo_zfsiscsi.lab.plain_rom import IN


class PlainRom:
    """Must run before a machine with a plain ROM is switched on.

    Args:
        machine: made with rom="plain".
        network: of the machine; with that it ends, too.
    """

    def __init__(self, machine: Machine, network: net.Network) -> None:
        self._ready = (machine.state / IN).exists
        module = [sys.executable, "-m", "cuckoo_zfsiscsi.lab.plain_rom", str(machine.state)]
        self._daemon = Logged(
            [*network.prefix, *module],
            machine.state / "rom.log",
            machine.state / "rom.pid",
            name="plain_rom",
        )

    def start(self) -> None:
        """Start it; return when it listens.

        Raises:
            LabError, DeadlineExceededError: it does not.
        """
        self._daemon.start(Deadline(HANG), self._ready)

    def stop(self) -> None:
        """End it. May be called again."""
        self._daemon.stop(Deadline(2.0))

    def __enter__(self) -> PlainRom:
        self.start()
        return self

    def __exit__(
        self, _t: type[BaseException] | None, _e: BaseException | None, _b: TracebackType | None
    ) -> None:
        self.stop()

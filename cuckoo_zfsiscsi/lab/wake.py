"""The network card of a host that is off: a magic packet switches the host on.

Usage: python -m cuckoo_zfsiscsi.lab.wake FOLDER INTERFACE MAC, FOLDER as in lab.plug. A card
without mains hears nothing.
"""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from cuckoo_zfsiscsi.lab import chassis
from cuckoo_zfsiscsi.lab.machine import Machine
from cuckoo_zfsiscsi.lab.plug import has_mains

ALL_PROTOCOLS = 3
PAUSE = 1.0
"""Seconds for which more packets mean the same wish."""


def is_magic(frame: bytes, mac: bytes) -> bool:
    """Tell whether a frame has six times FF and then 16 times the MAC, anywhere in it."""
    return b"\xff" * 6 + mac * 16 in frame[12:]


def listen(folder: Path, interface: str, mac: bytes) -> None:
    """Wake the host whenever its packet comes by, until killed."""
    machine = Machine(folder.parent)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL_PROTOCOLS)) as wire:
        wire.bind((interface, 0))
        (folder / "wake-ready").touch()
        woken = float("-inf")
        while True:
            frame = wire.recv(2048)
            if not is_magic(frame, mac) or time.monotonic() - woken < PAUSE:
                continue
            woken = time.monotonic()
            if has_mains(folder) and chassis.fault_of(machine) != "stuck-off":
                machine.on()


def main(arguments: Sequence[str]) -> None:
    """Listen until killed."""
    folder, interface, mac = arguments
    listen(Path(folder), interface, bytes.fromhex(mac.replace(":", "")))


if __name__ == "__main__":
    main(sys.argv[1:])

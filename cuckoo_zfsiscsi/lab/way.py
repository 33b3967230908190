"""The ways in which the emulated host can come to its boot script."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cuckoo_zfsiscsi.lab.qemu import Firmware, Rom

Dhcp = Literal["dnsmasq", "isc", "kea", "paper"]
ResetOn = Literal["start", "boot"]

FAST = {"bios": "", "uefi": "snponly.efi"}
"""By firmware: the boot_file that is the fastest here. The firmware's own NIC driver is there
already: 5 s faster than iPXE's."""


@dataclass(frozen=True)
class Way:
    """From power-on to the boot script."""

    dhcp: Dhcp = "dnsmasq"
    """The server that the service runs."""
    rom: Rom = "ipxe"
    """Of the network card, with BIOS."""
    boot_file: str | None = None
    """boot_file of the host; None: the fastest."""
    mutual_chap: bool = False
    """The target proves itself to the host, too."""
    reset_on: ResetOn = "start"
    """start: by start(); boot: by each boot of the host, as in the paper."""

    def keys(self, firmware: Firmware) -> str:
        """Return lines of the host's section in zfsiscsi.conf."""
        file = FAST[firmware] if self.boot_file is None else self.boot_file
        lines = [f"firmware = {firmware}", f"reset_on = {self.reset_on}"]
        if file:
            lines.append(f"boot_file = {file}")
        if self.mutual_chap:
            lines.append("mutual_chap = yes")
        return "\n".join(lines)


DEFAULT = Way()

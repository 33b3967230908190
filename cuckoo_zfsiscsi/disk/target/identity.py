"""What a host's disk calls itself: an ordinary disk, the same at each boot. Malware looks."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from cuckoo_zfsiscsi.config import HostConfig

_COMPANIES = {
    "SAMSUNG": 0x002538,
    "WDC": 0x0014EE,
    "SEAGATE": 0x000C50,
    "INTEL": 0x5CD2E4,
    "CRUCIAL": 0x00A075,
    "MICRON": 0x00A075,
    "KINGSTON": 0x0026B7,
    "SANDISK": 0x001B44,
    "TOSHIBA": 0x000039,
    "HGST": 0x000CCA,
    "HITACHI": 0x000CCA,
}
"""By a word of the vendor or the model (IEEE's list of OUIs)."""


@dataclass(frozen=True, slots=True)
class Identity:
    """The strings of INQUIRY data (SPC-4, 6.6.2 and 7.8.18)."""

    serial: str
    vendor: str = "ATA"
    """Up to 8 characters."""
    model: str = "Samsung SSD 870"
    """Up to 16 characters."""
    revision: str = "SVT0"
    """Up to 4 characters."""

    @property
    def company(self) -> int:
        """The maker's IEEE number (OUI), which a disk's world-wide name begins with."""
        for name, number in _COMPANIES.items():
            if name in f"{self.vendor} {self.model}".upper():
                return number
        return _COMPANIES["SAMSUNG"]

    @classmethod
    def of(cls, host: HostConfig) -> Identity:
        """Return what the configuration says."""
        serial = host.disk_serial or made_up_serial(host.label)
        return cls(serial, host.disk_vendor, host.disk_model, host.disk_revision)


def made_up_serial(label: str) -> str:
    """Return the serial of a host that was given none: the same each time, no other host's."""
    return "S5Y1NX" + hashlib.sha256(label.encode()).hexdigest()[:9].upper()

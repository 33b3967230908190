"""OpenStack's pyghmi as a BMC: python pyghmi_bmc.py PORT FILE; the password is in $BMC_PASSWORD.

FILE holds the machine's state, on or off.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from pyghmi.ipmi import bmc


class Bmc(bmc.Bmc):  # type: ignore[misc]  # without types
    """Switches a file."""

    def __init__(self, port: int, file: Path) -> None:
        super().__init__({"admin": os.environ["BMC_PASSWORD"]}, port=port, address="127.0.0.1")
        self._file = file

    def get_power_state(self) -> str:
        return self._file.read_text()

    def power_on(self) -> int:
        self._file.write_text("on")
        return 0

    def power_off(self) -> int:
        self._file.write_text("off")
        return 0

    def set_boot_device(self, bootdevice: str) -> int:
        self._file.with_suffix(".boot").write_text(bootdevice)
        return 0


if __name__ == "__main__":
    Bmc(int(sys.argv[1]), Path(sys.argv[2])).listen()

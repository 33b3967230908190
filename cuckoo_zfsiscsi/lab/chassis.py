"""What a BMC does with its host: ipmi_sim runs this for every chassis command and waits for it.

Usage: python -m cuckoo_zfsiscsi.lab.chassis STATE_DIR get|set|check (NAME [VALUE])...

Faults of real BMCs, for tests, are asked for in the file `fault` of the state directory:
"stuck-on" (says yes to off, and stays on), "stuck-off" (the other way round), "lies" (as stuck-on,
and says that it is off: an outlet that feeds another machine), "slow SECONDS" (every command takes
that much longer).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from cuckoo_zfsiscsi.lab.machine import Machine, MachineError


def main(arguments: Sequence[str]) -> int:
    """Do what ipmi_sim asks (ipmi_lan(5), chassis_control); return the exit code."""
    state, verb, *words = arguments
    machine = Machine(Path(state))
    fault = fault_of(machine)
    try:
        while words:
            name = words.pop(0)
            if verb == "get":
                answer = read(machine, name, fault)
                if answer:
                    sys.stdout.write(f"{name}:{answer}\n")
            else:
                value = words.pop(0) if words else ""
                if verb == "set":
                    switch(machine, name, value, fault)
    except MachineError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def fault_of(machine: Machine) -> str:
    """Return "stuck-on", "stuck-off", "lies" or ""; the fault "slow" is had here and now."""
    try:
        words = (machine.state / "fault").read_text().split()
    except FileNotFoundError:
        return ""
    if words[:1] == ["slow"]:
        time.sleep(float(words[1]))
        return ""
    return words[0] if words else ""


def read(machine: Machine, name: str, fault: str) -> str:
    """Return one value, "" if there is no such thing."""
    if name == "power":
        return "1" if machine.pid is not None and fault != "lies" else "0"
    if name == "boot":
        return "default"
    return ""


def switch(machine: Machine, name: str, value: str, fault: str) -> None:
    """Change one value.

    Raises:
        MachineError: the host can't be switched.
    """
    if name == "power" and value == "1" and fault != "stuck-off":
        machine.on()
    elif name == "power" and value == "0" and fault not in ("stuck-on", "lies"):
        machine.off()
    elif name == "reset":
        machine.reset()
    elif name == "shutdown":
        machine.press()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""A Redfish BMC: sushy-tools' emulator in front of whatever can be switched.

Usage: python -m cuckoo_zfsiscsi.lab.redfish FOLDER ADDRESS PORT, with what lab.bmc_redfish puts
into the folder. Faults are asked for as in lab.chassis.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

from cuckoo_zfsiscsi.lab import chassis
from cuckoo_zfsiscsi.lab.machine import Machine

Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
SYSTEM = "1"


class Systems(Protocol):
    """What one BMC switches."""

    def systems(self) -> list[str]:
        """Return the Ids."""
        ...

    def is_on(self, system: str) -> bool:
        """Return the power state as the BMC tells it."""
        ...

    def reset(self, system: str, kind: str) -> None:
        """Do what ComputerSystem.Reset asks for: On, ForceOff, ..."""
        ...


class OneMachine:
    """Implements Systems: one emulated host."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def systems(self) -> list[str]:
        """As Systems has it."""
        return [SYSTEM]

    def is_on(self, system: str) -> bool:  # noqa: ARG002 - there is one
        """As Systems has it."""
        chassis.fault_of(self._machine)
        return self._machine.pid is not None

    def reset(self, system: str, kind: str) -> None:  # noqa: ARG002 - there is one
        """As Systems has it."""
        fault = chassis.fault_of(self._machine)
        if kind in ("On", "ForceOn"):
            chassis.switch(self._machine, "power", "1", fault)
        elif kind == "ForceOff":
            chassis.switch(self._machine, "power", "0", fault)
        elif kind == "GracefulShutdown":
            chassis.switch(self._machine, "shutdown", "1", fault)
        else:
            chassis.switch(self._machine, "reset", "1", fault)


def make_emulator(pick: Callable[[], Systems]) -> Wsgi:
    """Return the emulator. There is one per process, as sushy-tools keeps it in a module.

    Args:
        pick: tells, during a request, what the BMC switches that was asked.
    """
    from sushy_tools import error
    from sushy_tools.emulator import main
    from sushy_tools.emulator.resources.systems import fakedriver

    class Driver(fakedriver.FakeDriver):  # type: ignore[misc]  # without types
        def __init__(self) -> None:  # the original keeps its systems in a database
            self._boot: dict[str, str] = {}

        @property
        def systems(self) -> list[str]:
            return pick().systems()

        def _get(self, identity: str) -> dict[str, Any]:
            if identity not in pick().systems():
                raise error.NotFound(f"There is no system {identity}")
            return {"uuid": identity, "name": identity, "nics": []}

        def get_power_state(self, identity: str) -> str:
            self._get(identity)
            return "On" if pick().is_on(identity) else "Off"

        def set_power_state(self, identity: str, state: str) -> None:
            self._get(identity)
            pick().reset(identity, state)

        def get_boot_device(self, identity: str) -> str:
            return self._boot.get(identity, "Hdd")

        def set_boot_device(self, identity: str, boot_source: str) -> None:
            self._boot[identity] = boot_source

    fakedriver.FakeDriver = Driver
    main.app.configure(
        extra_config={"SUSHY_EMULATOR_FAKE_DRIVER": True, "SUSHY_EMULATOR_FEATURE_SET": "minimum"}
    )
    app: Wsgi = main.app
    return app


def write_users(path: Path, user: str, password: str) -> None:
    """Write the file of users that with_users() reads."""
    import bcrypt

    digest = bcrypt.hashpw(password.encode(), bcrypt.gensalt(4))  # few rounds: an emulated BMC
    path.touch(0o600)
    path.write_text(f"{user}:{digest.decode()}\n")


def with_users(app: Wsgi, users: Path) -> Wsgi:
    """Return the emulator behind HTTP basic authentication."""
    from sushy_tools.emulator.main import RedfishAuthMiddleware

    guarded: Wsgi = RedfishAuthMiddleware(app, str(users))
    return guarded


def main(arguments: Sequence[str]) -> None:
    """Serve until killed."""
    from werkzeug.serving import run_simple

    folder, address, port = Path(arguments[0]), arguments[1], int(arguments[2])
    systems = OneMachine(Machine(folder.parent))
    app: Any = with_users(make_emulator(lambda: systems), folder / "users")
    run_simple(
        address, port, app, threaded=True, ssl_context=(str(folder / "cert"), str(folder / "key"))
    )


if __name__ == "__main__":
    main(sys.argv[1:])

"""The emulated physical host: QEMU without a disk. Switched by short-lived processes.

All that is known of it lies in a state directory, as the BMC runs lab.chassis anew for every
command. Standard library only, and little of it: the BMC waits meanwhile.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PATIENCE = 60.0
"""Seconds after which QEMU is not waited for any longer: that it dies, or answers."""
KEY = 0.1
"""Seconds for which QEMU holds a key down."""


class MachineError(Exception):
    """The emulated host can't be switched."""


class Machine:
    """One emulated host.

    Args:
        state: its directory. `argv.json` is what starts it, see lab.qemu.
    """

    def __init__(self, state: Path) -> None:
        self.state = state.absolute()

    @property
    def pid(self) -> int | None:
        """Process id of its QEMU; None while it is off.

        A pid file may be stale, and its number in use by another program.
        """
        try:
            pid = int((self.state / "pid").read_text())
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError):
            return None
        return pid if os.fsencode(self.state / "pid") in arguments else None

    @property
    def boots(self) -> int:
        """How often it was powered on."""
        try:
            return int((self.state / "boots").read_text())
        except (OSError, ValueError):
            return 0

    @property
    def console(self) -> Path:
        """What the serial console printed since the last power-on."""
        return self.state / f"console-{self.boots}.log"

    @property
    def powered_on(self) -> float:
        """When it was last powered on, seconds since the epoch; 0 if never."""
        try:
            return (self.state / "boots").stat().st_mtime
        except OSError:
            return 0.0

    def on(self) -> None:
        """Power on, as with its button: nothing if it is on.

        Raises:
            MachineError: QEMU does not start.
        """
        with self._alone():
            if self.pid is not None:
                return
            for left in ("pid", "qmp"):
                (self.state / left).unlink(missing_ok=True)
            (self.state / "boots").write_text(f"{self.boots + 1}\n")
            argv: list[str] = json.loads((self.state / "argv.json").read_text())
            link = self.state / "console"  # the name that QEMU opens
            link.unlink(missing_ok=True)
            link.symlink_to(self.console.name)
            self._start(argv)

    def _start(self, argv: list[str]) -> None:
        """Run QEMU, which puts itself into the background when it has everything it needs."""
        log = os.open(self.state / "qemu.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        null = os.open(os.devnull, os.O_RDONLY)
        # Not the environment of whoever asked: by a mark in it he might later think it his child
        environment = {"PATH": os.environ.get("PATH", os.defpath)}
        actions = [(os.POSIX_SPAWN_DUP2, null, 0)]
        actions += [(os.POSIX_SPAWN_DUP2, log, output) for output in (1, 2)]
        try:
            child = os.posix_spawnp(argv[0], argv, environment, file_actions=actions, setsid=True)
        except FileNotFoundError:
            raise MachineError(f"{argv[0]} is not installed") from None
        finally:
            os.close(log)
            os.close(null)
        _, status = os.waitpid(child, 0)
        if status:
            said = (self.state / "qemu.log").read_text(errors="replace").strip()
            raise MachineError(f"QEMU ended with status {status >> 8}: {said}")

    def off(self) -> None:
        """Cut the power: nothing if it is off.

        Raises:
            MachineError: QEMU survives SIGKILL.
        """
        with self._alone():
            end = time.monotonic() + PATIENCE
            while (pid := self.pid) is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                if time.monotonic() > end:
                    raise MachineError(f"QEMU, process {pid}, can't be killed")
                time.sleep(0.005)

    def press(self) -> None:
        """Press the power button: the guest's OS may shut down. Nothing if it is off."""
        self.qmp("system_powerdown")

    def reset(self) -> None:
        """Press the reset button. Nothing if it is off."""
        self.qmp("system_reset")

    def hit(self, *keys: str) -> None:
        """Hit keys of the host's keyboard, one after the other. Nothing if it is off.

        Args:
            keys: by QEMU's names (QKeyCode): "ret", "down", "a".
        """
        for key in keys:
            self.qmp("send-key", keys=[{"type": "qcode", "data": key}])
            time.sleep(2 * KEY)  # it is held down for KEY; iPXE loses one that comes too soon

    def qmp(self, command: str, **arguments: object) -> None:
        """Have QEMU do something (QEMU Machine Protocol).

        Args:
            command: to give.
            arguments: of the command.

        Raises:
            MachineError: it is on but does not answer.
        """
        if self.pid is None:
            return
        with socket.socket(socket.AF_UNIX) as peer:
            peer.settimeout(PATIENCE)
            try:
                _connect(peer, self.state / "qmp")
                with peer.makefile("rwb") as lines:
                    lines.readline()  # greeting
                    for name, values in (("qmp_capabilities", {}), (command, arguments)):
                        request = {"execute": name, "arguments": values}
                        lines.write(json.dumps(request).encode() + b"\n")
                        lines.flush()
                        while (answer := lines.readline()).startswith(
                            (b'{"event"', b'{"timestamp"')
                        ):
                            pass  # news that nobody asked for
                        if not answer.startswith(b'{"return"'):
                            raise MachineError(f"QEMU refused {name}: {answer.decode().strip()}")
            except OSError as error:
                raise MachineError(f"QEMU does not answer: {error}") from error

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Of several that switch at once, one goes first."""
        lock = os.open(self.state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)


def _connect(peer: socket.socket, path: Path) -> None:
    """Connect by a short name: a socket's path has 107 bytes at most (unix(7))."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        peer.connect(f"/proc/self/fd/{folder}/{path.name}")
    finally:
        os.close(folder)

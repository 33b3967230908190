"""The lab's storage server on this machine: files, tgt, and the service in the lab's network."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol

from cuckoo_zfsiscsi.cape.client import Client, ServiceError
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import DeadlineExceededError
from cuckoo_zfsiscsi.lab import conf
from cuckoo_zfsiscsi.lab import network as net
from cuckoo_zfsiscsi.lab.command import last_words, run
from cuckoo_zfsiscsi.lab.logged import Logged

START = 300.0
"""Seconds within which the service must serve, its store looked at and tidied."""
IMPORT = 1800.0
"""Seconds for the import of the golden image, on a slow disk."""

Say = Callable[[str], None]
Render = Callable[..., str]
"""conf.render(), what the host is like filled in."""


class Server(Protocol):
    """A storage server with the service on it."""

    logs: list[Path]
    """What it says."""

    def prepare(self, say: Say) -> None:
        """Make what can be made before there is a network.

        Raises:
            LabError: it can't be made.
        """
        ...

    def up(self, image: Path, render: Render, password: str, say: Say) -> None:
        """Start it; the service serves at the end. at/zfsiscsi.conf is CAPE's configuration.

        Args:
            image: guest disk to import.
            render: writes a configuration.
            password: of the BMC.
            say: told what is being done.

        Raises:
            LabError, DeadlineExceededError: a part does not work.
        """
        ...

    def zfsiscsi(self, *words: str, timeout: float) -> str:
        """Run our command line on it; return what it printed.

        Raises:
            LabError: it failed, or took longer than so many seconds.
            DeadlineExceededError: likewise.
        """
        ...

    def down(self) -> None:
        """End it. May be called again, also when only half of it is up."""
        ...


def write_secret(path: Path, secret: str) -> Path:
    """Write a secret into a file that only root can read."""
    path.touch(0o600)
    path.write_text(f"{secret}\n")
    return path


def command(at: Path, *words: str) -> list[str]:
    """Return the argv of our command line with the configuration in a lab's directory."""
    conf_file = str(at / "zfsiscsi.conf")
    return [sys.executable, "-m", "cuckoo_zfsiscsi", "--conf", conf_file, *words]


def make_client(at: Path) -> Client:
    """Return the client of a lab's service. Where it needs a token, that is in a file by then."""
    return Client(f"unix://{at}/api.sock", str(at / "token") if (at / "token").exists() else None)


def await_service(at: Path, deadline: Deadline, log: Path) -> None:
    """Wait until the service answers at the socket of a lab.

    Args:
        at: directory of the lab.
        deadline: by when.
        log: the service's.

    Raises:
        DeadlineExceededError: it does not; with its last words.
    """
    try:
        while not serves(at):
            deadline.sleep(0.1, "the start of the service")
    except DeadlineExceededError as error:
        raise DeadlineExceededError(f"{error.what}; its log: {last_words(log)}") from error


def serves(at: Path) -> bool:
    """Tell whether the service answers at the socket of a lab."""
    try:
        return bool(make_client(at).hosts())
    except ServiceError:
        return False


class LocalServer:
    """Implements Server.

    Args:
        at: directory of the lab.
        network: of the lab.
    """

    def __init__(self, at: Path, network: net.Network) -> None:
        self._at = at
        log = at / "service.log"
        self.logs = [log]
        self._service = Logged(
            [*network.prefix, *command(at, "serve")],
            log,
            at / "service.pid",
            name="zfsiscsi serve",
            grace=30.0,
        )

    def prepare(self, say: Say) -> None:
        """As Server.prepare(): there is nothing to make."""

    def up(self, image: Path, render: Render, password: str, say: Say) -> None:
        """As Server.up()."""
        at = self._at
        (at / "zfsiscsi.conf").write_text(
            render(
                service=f"unix://{at}/api.sock",
                token_file=None,
                run_dir=at / "run",
                storage=conf.FILES.format(at=at),
                interface=net.BRIDGE,
                password_file=write_secret(at / "bmc.password", password),
            )
        )
        say("golden image")
        self.zfsiscsi("image", "import", conf.IMAGE, str(image), timeout=IMPORT)
        say("service")
        self._service.start(Deadline(START), partial(serves, at))

    def zfsiscsi(self, *words: str, timeout: float) -> str:
        """As Server.zfsiscsi()."""
        return run(command(self._at, *words), timeout=timeout)

    def down(self) -> None:
        """As Server.down()."""
        self._service.stop(Deadline(30.0))

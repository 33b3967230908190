"""A DHCP server that is run for the hosts: written, checked, started, watched, replaced."""

from __future__ import annotations

import logging
import re
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from cuckoo_zfsiscsi.config import Config
from cuckoo_zfsiscsi.daemon import Daemon
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.environment import search_path
from cuckoo_zfsiscsi.errors import NetbootError
from cuckoo_zfsiscsi.netboot import OnEvent
from cuckoo_zfsiscsi.netboot.checker import check
from cuckoo_zfsiscsi.netboot.dnsmasq import Dnsmasq
from cuckoo_zfsiscsi.netboot.lines import ServerLog

CLOSE_TIMEOUT = 5.0
WHO = "who has its port? ss -lunp 'sport = :67'"
OWNER = ("nobody", "root")
"""User as whom it runs (dnsmasq does so by itself); and root, for servers that start as root but
may not overrule permissions, as AppArmor has it."""

log = logging.getLogger(__name__)


class Netboot(Protocol):
    """Whatever gives the hosts their addresses and boot files."""

    def open(self, deadline: Deadline) -> None:
        """Start it, in place of what an earlier life of ours left. May be called again.

        Raises:
            NetbootError: it can't serve.
            DeadlineExceededError, CancelledError: as it says.
        """
        ...

    def alive(self) -> bool:
        """Whether all of it runs."""
        ...

    def close(self) -> None:
        """End it. May be called again."""
        ...


@dataclass(frozen=True)
class Program:
    """How one DHCP server is run."""

    name: str
    file: Path
    """Its configuration."""
    argv: tuple[str, ...]
    test: tuple[str, ...]
    """Its own checker of that file."""
    install: str
    started: re.Pattern[str]
    """Matches the line that says that it serves."""
    ack: re.Pattern[str]
    """Matches a line that says that a client has its address; group 1 is its MAC."""
    broken: re.Pattern[str] | None = None
    """Matches a line that says that it goes on, but can't serve."""
    env: Mapping[str, str] = field(default_factory=dict)
    files: tuple[Path, ...] = ()
    """What must exist before it starts."""
    owner: tuple[str, str] = OWNER
    """User and group that own its files."""


class DhcpServer:
    """Runs a DHCP server, and something beside it for TFTP.

    Implements Netboot.

    Args:
        config: of the service; the server's files go into a folder of its run_dir.
        on_event: told (label, "dhcp" or "tftp", monotonic seconds), in a thread of ours.
        program: how it is run, with its files in the folder given.
        render: writes its configuration.
        beside: is opened first; by default dnsmasq, for TFTP and router advertisements.
        folder: name of its folder.
    """

    def __init__(
        self,
        config: Config,
        on_event: OnEvent,
        *,
        program: Callable[[Path], Program],
        render: Callable[[Config], str],
        beside: Netboot | None = None,
        folder: str = "dhcp",
    ) -> None:
        self._config = config
        self._on_event = on_event
        self._render = render
        self._by_mac = {host.mac: host.label for host in config.hosts}
        self._folder = config.zfsiscsi.run_dir / folder
        self._program = program(self._folder)
        self._log = ServerLog(log, f"{self._program.name}: ", config.hosts)
        self._serving = threading.Event()
        self._broken = ""
        self._beside = beside or Dnsmasq(config, on_event, dhcp=False)
        self._daemon = Daemon(
            self._program.argv,
            config.zfsiscsi.run_dir / f"{self._program.name}.pid",
            name=self._program.name,
            env=self._program.env,
            on_line=self._read,
            error=NetbootError,
            install=self._program.install,
            fix=WHO,
        )

    def open(self, deadline: Deadline) -> None:
        """As Netboot.open()."""
        program = self._program
        text = self._render(self._config)
        if not shutil.which(
            program.name, path=search_path()
        ):  # the program that argv begins with may be another
            raise NetbootError(f"{program.name} is not installed", fix=program.install)
        if not self._beside.alive():
            self._beside.open(deadline)
        self._folder.mkdir(exist_ok=True)
        for old in self._folder.glob("*.pid"):  # a killed one's would be taken for a live one's
            old.unlink()
        program.file.write_text(text)
        for file in program.files:
            file.touch()
        for path in (self._folder, program.file, *program.files):
            shutil.chown(path, *program.owner)
            path.chmod(0o775 if path.is_dir() else 0o664)
        check(program.test, deadline, install=program.install, fix=_advice(program))
        self._daemon.stop(deadline)
        self._serving.clear()
        self._broken = ""
        self._daemon.start(deadline, ready=self._ready)

    def alive(self) -> bool:
        """As Netboot.alive()."""
        return self._daemon.alive() and self._beside.alive()

    def close(self) -> None:
        """As Netboot.close()."""
        self._daemon.stop(Deadline(CLOSE_TIMEOUT))
        self._beside.close()

    def _ready(self) -> bool:
        if self._broken:
            raise NetbootError(f"{self._program.name} can't serve: {self._broken}", fix=WHO)
        return self._serving.is_set()

    def _read(self, line: str) -> None:
        at = time.monotonic()
        self._log.write(line)
        if self._program.broken and self._program.broken.match(line):
            self._broken = line
        elif self._program.started.match(line):
            self._serving.set()
        elif (acked := self._program.ack.match(line)) and acked[1] in self._by_mac:
            self._on_event(self._by_mac[acked[1]], "dhcp", at)


def _advice(program: Program) -> str:
    """Say what to do when the checker refuses."""
    command = " ".join(program.test)
    if Path("/sys/kernel/security/apparmor").exists():
        return f"{command}; does AppArmor let it read {program.file}? see docs/netboot.rst"
    return command

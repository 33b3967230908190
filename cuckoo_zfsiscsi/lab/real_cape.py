"""The real CAPE beside a checkout: a copy of its tree, configured for the lab, running in it.

Nothing of CAPE is part of this project. Whoever runs this gives a checkout and a Python that has
CAPE's packages; the checkout itself is not changed.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path

import cuckoo_zfsiscsi
from cuckoo_zfsiscsi.daemon import Daemon
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import LabError
from cuckoo_zfsiscsi.lab import network as net
from cuckoo_zfsiscsi.lab.command import HANG, last_words, run
from cuckoo_zfsiscsi.lab.logged import Logged
from cuckoo_zfsiscsi.lab.network import Namespace, Network

WEB_PORT = 8080
"""On the lab's loopback interface."""
START = 600.0
"""Seconds within which a part of CAPE must be up."""
LEFT_OUT = (".git", ".venv", "db", "docs", "log", "storage")
CONF = {
    "cuckoo": """\
[cuckoo]
freespace = 0
freespace_processing = 0
tmppath = {at}/tmp
rooter = {rooter}
[resultserver]
ip = {server}
[database]
connection = {database}
[timeouts]
default = 60
critical = 60
""",
    "routing": """\
[routing]
enable_pcap = yes
route = none
""",
    # What a guest without a screen can't do
    "auxiliary": """\
[auxiliary_modules]
filecollector = no
screenshots_linux = no
screenshots_windows = no
""",
    # No server outside is looked for
    "processing": """\
[virustotal]
enabled = no
[suricata]
enabled = no
[flare_capa]
enabled = no
""",
    "api": """\
[api]
ratelimit = no
[machinelist]
enabled = yes
[taskview]
enabled = yes
[taskstatus]
enabled = yes
[taskreport]
enabled = yes
""",
    # A script may be anyone's: the submission says for which platform it is
    "web": """\
[general]
dynamic_platform_determination = no
dynamic_arch_determination = no
[linux]
enabled = yes
""",
}
"""What CAPE reads last, from $CAPE_CD: what depends on where it runs, not on us."""


@dataclass(frozen=True)
class CapeServer:
    """Where CAPE runs."""

    namespace: Namespace
    address: IPv4Address
    """Of its result server."""
    rooter: Path = Path("/tmp/cuckoo-rooter")  # noqa: S108
    """Socket of its rooter; CAPE's own choice where it has no route that needs one."""
    routing: str = ""
    """Its routing.conf, if another than CONF's."""


def beside(network: Network) -> CapeServer:
    """Return the storage server, in the hosts' network, where there is no way out."""
    return CapeServer(network, net.SERVER.ip)


class RealCape:
    """One CAPE: its scheduler, its processing and its web server with REST.

    Args:
        root: a checkout of CAPE.
        python: an interpreter that has CAPE's packages.
        at: an empty directory to use.
        server: where it runs.
        database: SQLAlchemy's URL; an SQLite file in the directory when empty.
    """

    def __init__(
        self, root: Path, python: Path, at: Path, server: CapeServer, *, database: str = ""
    ) -> None:
        self.tree = at / "CAPEv2"
        self.database = database or f"sqlite:///{at}/cape.db"
        self.logs = [at / f"{name}.log" for name in ("scheduler", "processing", "web")]
        self._root = root
        self.python = python
        self._at = at
        self.server = server
        self.conf = at / "conf"
        self._daemons: dict[str, Daemon] = {}

    def prepare(self) -> None:
        """Copy the tree and write the configuration.

        Raises:
            LabError: this is no checkout of CAPE.
        """
        if not (self._root / "cuckoo.py").is_file():
            raise LabError(f"{self._root} is no checkout of CAPE", fix="set CAPE_ROOT")
        if not self.python.is_file():
            raise LabError(f"{self.python} is not there", fix="set CAPE_PYTHON")
        for folder in (self.conf, self._at / "tmp"):
            folder.mkdir(parents=True, exist_ok=True)

        def leave_out(folder: str, names: list[str]) -> list[str]:
            return [name for name in names if Path(folder) == self._root and name in LEFT_OUT]

        shutil.copytree(self._root, self.tree, ignore=leave_out, symlinks=True)
        server = self.server
        texts = {**CONF, **({"routing": server.routing} if server.routing else {})}
        for name, text in texts.items():
            text = text.format(
                at=self._at, server=server.address, rooter=server.rooter, database=self.database
            )
            (self.conf / f"{name}.conf").write_text(text)

    def run(self, *words: str, timeout: float = START, cwd: str = "") -> str:
        """Run one of CAPE's programs to its end; return what it printed.

        Raises:
            LabError: it failed.
        """
        argv = [*self.server.namespace.prefix, str(self.python), *words]
        return run(argv, timeout=timeout, cwd=self.tree / cwd, env=self._environment)

    def start(self) -> None:
        """Start all of it. The scheduler goes first: it makes the database's tables.

        Raises:
            LabError, DeadlineExceededError: a part does not come up.
        """
        self.start_scheduler()
        self._start("processing", "utils/process.py", "-p", "1", "auto")
        self.run("manage.py", "migrate", "--no-input", cwd="web")
        web = ("manage.py", "runserver", f"127.0.0.1:{WEB_PORT}", "--noreload")
        self._start("web", *web, cwd="web", says="Listening on TCP")

    def start_scheduler(self) -> None:
        """Start the scheduler alone; it waits for tasks at the end.

        Raises:
            LabError, DeadlineExceededError: it does not come up.
        """
        self._start("scheduler", "cuckoo.py", says="Waiting for analysis tasks")

    def stop(self) -> None:
        """End all that runs. May be called again."""
        for name in reversed(list(self._daemons)):
            self._daemons[name].stop(Deadline(30.0))

    def kill_scheduler(self, number: signal.Signals) -> None:
        """Send the scheduler a signal, and wait for its end.

        Raises:
            LabError, DeadlineExceededError: it does not end.
        """
        scheduler, deadline = self._daemons["scheduler"], Deadline(HANG)
        if scheduler.pid:
            os.kill(scheduler.pid, number)
        while scheduler.alive():
            deadline.sleep(0.05, f"the end of CAPE's scheduler ({last_words(self.logs[0])})")
        scheduler.stop(deadline)

    @property
    def _environment(self) -> dict[str, str]:
        ours = Path(cuckoo_zfsiscsi.__file__).parents[1]
        return {
            "CAPE_AS_ROOT": "1",
            "CAPE_CD": str(self.conf),
            "PYTHONPATH": str(ours),
            "PYTHONUNBUFFERED": "1",
        }

    def _start(self, name: str, *words: str, cwd: str = "", says: str = "") -> None:
        log = self._at / f"{name}.log"
        before = log.stat().st_size if log.exists() else 0
        argv = [
            "env",
            "-C",
            str(self.tree / cwd),
            *self.server.namespace.prefix,
            str(self.python),
            *words,
        ]
        daemon = Logged(
            argv,
            log,
            self._at / f"{name}.pid",
            name=f"CAPE's {name}",
            env=self._environment,
            grace=20.0,
        )
        self._daemons[name] = daemon
        daemon.start(Deadline(START), partial(_has_said, log, before, says.split("|")))


def _has_said(log: Path, before: int, words: list[str]) -> bool:
    try:
        text = log.read_bytes()[before:].decode(errors="replace")
    except FileNotFoundError:
        return False
    return any(word in text for word in words)


def default_python(root: Path) -> Path:
    """Return the interpreter of a checkout's own environment, if it has one, else ours."""
    own = root / ".venv/bin/python"
    return own if own.exists() else Path(sys.executable)

"""The whole path but the boot: real service, dnsmasq, tgtd, ipmi_sim, and a played guest.

Everything is real but the guest, a small program that boots in a blink (guest.py): so the service
can be killed at every step, many times over.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cuckoo_zfsiscsi.cape.client import Client
from cuckoo_zfsiscsi.errors import ZfsIscsiError
from cuckoo_zfsiscsi.lab.bmc import Bmc
from cuckoo_zfsiscsi.lab.machine import Machine
from cuckoo_zfsiscsi.lab.network import BRIDGE, FOLDER, SERVER, Network, host_address, mac
from tests.faults import conf, patience
from tests.faults.conf import PASSWORD
from tests.faults.forked import Child, ForkServer
from tests.faults.patience import SERVICE
from tests.waiting import HANG, wait

PLAYED = [sys.executable, "-S", "-E", str(Path(__file__).with_name("guest.py"))]
"""The guest. Without site packages and the environment Python starts in half the time."""
CURL = ["curl", "--silent", "--show-error", "--max-time", str(HANG)]
IMAGE_SIZE = 4 << 20
"""Bytes; nothing boots from it."""


class SmallLab:
    """One host, its BMC, and the service, in a network of their own under one directory.

    Args:
        at: an empty directory.
        name: end of the network's name; two labs at a time have two.
        forks: what the service and the command line are forked from.
    """

    def __init__(self, at: Path, name: str, forks: ForkServer) -> None:
        self.at = at
        self._forks = forks
        self.network = Network(f"zfsiscsi-test-{name}", hosts=1)
        self.conf = at / "zfsiscsi.conf"
        self.log = at / "service.log"
        self.machine = Machine(at / "machine")
        self.golden = os.urandom(IMAGE_SIZE)
        self._service: subprocess.Popen[bytes] | Child | None = None
        self._bmc = Bmc(self.machine, 1, self.network, password=PASSWORD)
        self._undo = contextlib.ExitStack()
        self.client = Client(f"unix://{at}/api.sock")

    def open(self) -> None:
        """Make everything but the service."""
        self.machine.state.mkdir()
        self._undo.callback(self.machine.off)
        self._undo.enter_context(self.network)
        # The host is a namespace of its own, as malware on it would see it.
        commands = [
            f"link add host0 type veth peer name eth0 address {mac(1)}",
            f"link set host0 master {BRIDGE} up",
        ]
        for command in commands:
            self.network.run(["ip", *command.split()])
        inside = f"{self.network.name}-host"
        subprocess.run(["ip", "netns", "add", inside], check=True)
        self._undo.callback(subprocess.run, ["ip", "netns", "delete", inside], check=True)
        self.network.run(["ip", "link", "set", "eth0", "netns", inside])
        for command in ("link set lo up", f"addr add {host_address(1)}/24 dev eth0"):
            subprocess.run(["ip", "-n", inside, *command.split()], check=True)
        subprocess.run(["ip", "-n", inside, "link", "set", "eth0", "up"], check=True)
        self._inside = inside
        self.play()
        self._undo.enter_context(self._bmc)
        self._write_files()
        self.run_cli("image", "import", "golden", str(self.at / "golden.raw"))

    def play(self, *options: str) -> None:
        """Decide what the guest does from its next power-on."""
        url = f"http://{SERVER.ip}:8471/boot.ipxe?mac={mac(1)}"
        argv = ["nsenter", f"--net=/run/netns/{self._inside}", "--", *PLAYED]
        argv += ["--pidfile", str(self.machine.state / "pid"), "--script", url, *options]
        (self.machine.state / "argv.json").write_text(json.dumps(argv))

    def set(self, key: str, value: object) -> None:
        """Change one key in the configuration of a service that is yet to start."""
        text, found = re.subn(rf"(?m)^{key} = .*$", f"{key} = {value}", self.conf.read_text())
        assert found == 1, f"{found} lines with {key}"
        self.conf.write_text(text)

    def close(self) -> None:
        """End and remove everything."""
        try:
            self.kill()
        finally:
            self._undo.close()
            # Sealed images are immutable, also for who cleans up the test's directory.
            subprocess.run(["chattr", "-R", "-f", "-i", str(self.at)], check=False)

    def start(self, die: tuple[str, str, int] | None = None) -> None:
        """Start the service, a new process, and wait until it answers, or has ended.

        Args:
            die: how it kills itself, see die.arrange().
        """
        words = ["--conf", str(self.conf), "serve"]
        with self.log.open("ab") as log:
            self._service = self._forks.fork(
                words, namespace=self._namespace, cwd=self.at, outputs=[log, log], die=die
            )
        self.wait(lambda: self.answers() or not self.runs, "the service's start")

    def start_interpreter(self) -> None:
        """As start(), but with an interpreter of its own, as systemd does."""
        argv = [*self.network.prefix, sys.executable, "-m", "cuckoo_zfsiscsi"]
        argv += ["--conf", str(self.conf), "serve"]
        with self.log.open("ab") as log:
            self._service = subprocess.Popen(argv, stdout=log, stderr=log, cwd=self.at)
        self.wait(lambda: self.answers() or not self.runs, "the service's start")

    def restart(self) -> None:
        """Start the service as it is, and see that it serves."""
        self.start()
        assert self.runs, self.seen()

    @property
    def runs(self) -> bool:
        return self._service is not None and self.ended is None

    @property
    def ended(self) -> int | None:
        """Exit code of the service, that of its signal as a negative number."""
        return self._service.poll() if self._service else None

    @property
    def _namespace(self) -> Path:
        return FOLDER / self.network.name

    def answers(self) -> bool:
        try:
            return bool(self.client.hosts())
        except ZfsIscsiError:
            return False

    def kill(self, how: int = signal.SIGKILL) -> int:
        """Send the service a signal and wait for its end; return its exit code."""
        if self._service is None:
            return 0
        self._service.send_signal(how)
        self.wait(lambda: not self.runs, f"the service's end by {signal.Signals(how).name}")
        return self.ended or 0

    def state(self) -> str:
        return str(self.client.host("pc1")["state"])

    def wait(self, true: Callable[[], object], what: str) -> None:
        wait(true, what=f"waited for {what}", seen=self.seen, pause=0.05)

    def seen(self) -> str:
        """Tell what there is to see of the service."""
        try:
            host = self.client.host("pc1")
            answer = f"pc1 is {host['state']}, generation {host['generation']}: {host['reason']!r}"
        except ZfsIscsiError as error:
            answer = f"no answer ({error})"
        power = "off" if self.machine.pid is None else "on"
        life = "runs" if self.runs else f"has ended with {self.ended}"
        last = patience.tail(self.log)
        return f"the service {life}; {answer}; the machine is {power}; {last}"

    def run_cli(self, *words: str, code: int = 0) -> str:
        """Run the command line inside; return what it printed, both ways."""
        words = ("--conf", str(self.conf), *words)
        found, out, err = self._forks.run(words, namespace=self._namespace, cwd=self.at)
        assert found == code, f"exit code {found}: {out}{err}"
        return out + err

    def ask_guest(self, path: str, method: str = "GET") -> dict[str, Any]:
        """Ask the guest's agent."""
        url = f"http://{host_address(1)}:8000{path}"
        answer: dict[str, Any] = json.loads(
            self.network.run([*CURL, "-X", method, url], timeout=2 * HANG)
        )
        return answer

    def fetch_as_guest(self, url: str) -> str:
        """Return what the host gets under a URL."""
        prefix = ["nsenter", f"--net=/run/netns/{self._inside}", "--"]
        argv = [*prefix, *CURL, url]
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout

    def routes(self) -> str:
        """Return the default routes of the host."""
        argv = ["ip", "-n", self._inside, "route", "show", "default"]
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout

    def processes(self, names: Sequence[str]) -> list[str]:
        """Names of the programs of this lab's service that run now."""
        found = []
        for pid in self.network.pids():
            with contextlib.suppress(OSError):
                name = Path(f"/proc/{pid}/comm").read_text().strip()
                if name in names:
                    found.append(name)
        return sorted(found)

    def _write_files(self) -> None:
        (self.at / "golden.raw").write_bytes(self.golden)
        conf.write(
            self.at,
            {1: self._bmc.url},
            power_signs="rpc,agent,session",
            power_interval=0.05,
            power_timeout=SERVICE,
            boot_timeout=SERVICE,
        )

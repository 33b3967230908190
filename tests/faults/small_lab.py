"""The whole path but the boot: real service, dnsmasq, tgtd, ipmi_sim, and a played guest.

Everything is real but the guest, a small program that boots in a blink (guest.py): so the service
can be killed at every step, many times over.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cuckoo_zfsiscsi.cape.client import Client
from cuckoo_zfsiscsi.errors import ZfsIscsiError
from cuckoo_zfsiscsi.lab.bmc import Bmc
from cuckoo_zfsiscsi.lab.machine import Machine
from cuckoo_zfsiscsi.lab.network import BRIDGE, SERVER, Network, host_address, mac
from tests.faults import conf
from tests.faults.conf import PASSWORD

GUEST = Path(__file__).with_name("guest.py")
IMAGE_SIZE = 4 << 20
"""Bytes; nothing boots from it."""


class SmallLab:
    """One host, its BMC, and the service, in a network of their own under one directory."""

    def __init__(self, at: Path, name: str) -> None:
        self.at = at
        self.network = Network(f"zfsiscsi-test-{name}", hosts=1)
        self.conf = at / "zfsiscsi.conf"
        self.log = at / "service.log"
        self.machine = Machine(at / "machine")
        self.golden = os.urandom(IMAGE_SIZE)
        self._service: subprocess.Popen[bytes] | None = None
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
        argv = ["nsenter", f"--net=/run/netns/{self._inside}", "--", sys.executable, str(GUEST)]
        argv += ["--pidfile", str(self.machine.state / "pid"), "--script", url, *options]
        (self.machine.state / "argv.json").write_text(json.dumps(argv))

    def close(self) -> None:
        """End and remove everything."""
        self.kill()
        self._undo.close()
        # Sealed images are immutable, also for who cleans up the test's directory.
        subprocess.run(["chattr", "-R", "-f", "-i", str(self.at)], check=False)

    def start(self, *wrapper: str) -> None:
        """Start the service and wait until it answers, or has ended."""
        argv = [*self.network.prefix, sys.executable, *(wrapper or ("-m", "cuckoo_zfsiscsi"))]
        argv += ["--conf", str(self.conf), "serve"]
        with self.log.open("ab") as log:
            self._service = subprocess.Popen(argv, stdout=log, stderr=log, cwd=self.at)
        self.wait(lambda: self.answers() or not self.runs, "the service's start")

    def restart(self) -> None:
        """Start the service as it is, and see that it serves."""
        self.start()
        assert self.runs, f"the service has ended; log:\n{self.log.read_text()}"

    @property
    def runs(self) -> bool:
        return self._service is not None and self._service.poll() is None

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
        return self._service.wait(30)

    def state(self) -> str:
        return str(self.client.host("pc1")["state"])

    def wait(self, true: Callable[[], object], what: str, seconds: float = 60.0) -> None:
        end = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < end, f"{what} took too long; log:\n{self.log.read_text()}"
            time.sleep(0.05)

    def run_cli(self, *words: str, code: int = 0) -> str:
        """Run the command line inside; return what it printed, both ways."""
        argv = [*self.network.prefix, sys.executable, "-m", "cuckoo_zfsiscsi"]
        argv += ["--conf", str(self.conf), *words]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def ask_guest(self, path: str, method: str = "GET") -> dict[str, Any]:
        """Ask the guest's agent."""
        url = f"http://{host_address(1)}:8000{path}"
        answer: dict[str, Any] = json.loads(
            self.network.run(["curl", "--silent", "--max-time", "5", "-X", method, url])
        )
        return answer

    def fetch_as_guest(self, url: str) -> str:
        """Return what the host gets under a URL."""
        prefix = ["nsenter", f"--net=/run/netns/{self._inside}", "--"]
        argv = [*prefix, "curl", "--silent", "--max-time", "5", url]
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
            power_timeout=10,
            boot_timeout=10,
        )

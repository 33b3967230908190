"""Several hosts of the small lab under one service: real BMCs, target and DHCP, played guests."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from cuckoo_zfsiscsi.cape.client import Client
from cuckoo_zfsiscsi.errors import ZfsIscsiError
from cuckoo_zfsiscsi.lab.bmc import Bmc
from cuckoo_zfsiscsi.lab.machine import Machine
from cuckoo_zfsiscsi.lab.network import BRIDGE, SERVER, Network, host_address, mac
from tests.faults import conf
from tests.faults.conf import PASSWORD
from tests.faults.small_lab import GUEST, IMAGE_SIZE


class Farm:
    """So many hosts, their BMCs, and the service, in a network of their own under one directory.

    Args:
        at: an empty directory.
        hosts: how many.
    """

    def __init__(self, at: Path, hosts: int) -> None:
        self.at = at
        self.network = Network(f"zfsiscsi-farm-{os.getpid()}", hosts=hosts)
        self.conf = at / "zfsiscsi.conf"
        self.log = at / "service.log"
        self.golden = os.urandom(IMAGE_SIZE)
        self.labels = [f"pc{number}" for number in range(1, hosts + 1)]
        self.machines = {label: Machine(at / label) for label in self.labels}
        self.client = Client(f"unix://{at}/api.sock")
        self._service: subprocess.Popen[bytes] | None = None
        self._undo = contextlib.ExitStack()

    def open(self) -> None:
        """Make everything but the service."""
        self._undo.enter_context(self.network)
        power = {}
        for number, label in enumerate(self.labels, 1):
            self._plug_in(number)
            machine = self.machines[label]
            machine.state.mkdir()
            self._undo.callback(machine.off)
            self.play(label)
            bmc = self._undo.enter_context(Bmc(machine, number, self.network, password=PASSWORD))
            power[number] = bmc.url
        # A guest's namespace answers ARP and ping while no guest is in it
        keys = {"power_signs": "rpc,agent,session", "power_interval": 0.05}
        conf.write(self.at, power, power_timeout=15, boot_timeout=15, **keys)
        golden = self.at / "golden.raw"
        golden.write_bytes(self.golden)
        argv = [*self._command, "image", "import", "golden", str(golden)]
        subprocess.run(argv, check=True, timeout=60, stdout=subprocess.DEVNULL)

    def _plug_in(self, number: int) -> None:
        """Make the namespace in which a guest runs, as malware on it would see it."""
        name, inside = f"host{number}", self._inside(number)
        for command in (
            f"link add {name} type veth peer name eth0 address {mac(number)}",
            f"link set {name} master {BRIDGE} up",
        ):
            self.network.run(["ip", *command.split()])
        subprocess.run(["ip", "netns", "add", inside], check=True)
        self._undo.callback(subprocess.run, ["ip", "netns", "delete", inside], check=True)
        self.network.run(["ip", "link", "set", "eth0", "netns", inside])
        for command in (
            "link set lo up",
            f"addr add {host_address(number)}/24 dev eth0",
            "link set eth0 up",
        ):
            subprocess.run(["ip", "-n", inside, *command.split()], check=True)

    def _inside(self, number: int) -> str:
        return f"{self.network.name}-{number}"

    @property
    def _command(self) -> list[str]:
        argv = [*self.network.prefix, sys.executable, "-m", "cuckoo_zfsiscsi"]
        return [*argv, "--conf", str(self.conf)]

    def play(self, label: str, *options: str) -> None:
        """Decide what a guest does from its next power-on."""
        number = self.labels.index(label) + 1
        url = f"http://{SERVER.ip}:8471/boot.ipxe?mac={mac(number)}"
        argv = ["nsenter", f"--net=/run/netns/{self._inside(number)}", "--", sys.executable]
        state = self.machines[label].state
        argv += [str(GUEST), "--pidfile", str(state / "pid"), "--script", url, *options]
        (state / "argv.json").write_text(json.dumps(argv))

    def fault(self, label: str, text: str) -> None:
        """Have a host's BMC fail, or work again when the text is empty."""
        path = self.machines[label].state / "fault"
        if text:
            path.write_text(text)
        else:
            path.unlink(missing_ok=True)

    def start(self) -> None:
        """Start the service and wait until it answers."""
        with self.log.open("ab") as log:
            argv = [*self._command, "serve"]
            self._service = subprocess.Popen(argv, stdout=log, stderr=log, cwd=self.at)
        self.wait(self.answers, "the service's start")

    def kill(self) -> None:
        """Kill the service (SIGKILL)."""
        if self._service:
            self._service.kill()
            self._service.wait(30)

    def answers(self) -> bool:
        """Tell whether the service answers."""
        try:
            return bool(self.client.hosts())
        except ZfsIscsiError:
            return False

    def states(self) -> dict[str, str]:
        """Return every host's state."""
        return {str(host["label"]): str(host["state"]) for host in self.client.hosts()}

    def wait(self, true: Callable[[], object], what: str, seconds: float = 60.0) -> None:
        """Wait until something is true."""
        end = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < end, f"{what} took too long: {self.log}"
            time.sleep(0.1)

    def close(self) -> None:
        """End and remove everything."""
        if self._service and self._service.poll() is None:
            self._service.send_signal(signal.SIGTERM)
            self._service.wait(60)
        self._undo.close()
        subprocess.run(["chattr", "-R", "-f", "-i", str(self.at)], check=False)

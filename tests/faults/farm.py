"""Several hosts of the small lab under one service: real BMCs, target and DHCP, played guests."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Callable
from ipaddress import IPv4Address
from pathlib import Path

from cuckoo_zfsiscsi.cape.client import Client
from cuckoo_zfsiscsi.errors import ZfsIscsiError
from cuckoo_zfsiscsi.lab.bmc import Bmc
from cuckoo_zfsiscsi.lab.machine import Machine
from cuckoo_zfsiscsi.lab.network import BRIDGE, FOLDER, SERVER, Network, host_address, mac
from tests.faults import conf, patience
from tests.faults.conf import PASSWORD
from tests.faults.forked import Child, ForkServer
from tests.faults.small_lab import IMAGE_SIZE, PLAYED
from tests.waiting import HANG, wait

TIMEOUT = 15.0
"""Seconds for a power switch and for a boot: bench.faults has hosts that take longer."""
STOP_TIMEOUT = 20.0
"""Seconds that a stop may take; bench.faults has hosts that do not go off."""

NETWORKS = """
[network:pc{{n}}]
n = 1-{last}
interface = host{{n}}
address = 10.99.{{n}}.1/24
"""


class Farm:
    """So many hosts, their BMCs, and the service, in a network of their own under one directory.

    Args:
        at: an empty directory.
        hosts: how many.
        forks: what the service is forked from; one of its own if left out.
        timeout: seconds for a power switch and for a boot.
        alone: each host has a wire and a network of its own; else they share one.
    """

    def __init__(
        self,
        at: Path,
        hosts: int,
        forks: ForkServer | None = None,
        timeout: float = TIMEOUT,
        *,
        alone: bool = False,
    ) -> None:
        self.at = at
        self.alone = alone
        self._forks = forks
        self._timeout = timeout
        self.network = Network(f"zfsiscsi-farm-{os.getpid()}", hosts=hosts)
        self.conf = at / "zfsiscsi.conf"
        self.log = at / "service.log"
        self.golden = os.urandom(IMAGE_SIZE)
        self.labels = [f"pc{number}" for number in range(1, hosts + 1)]
        self.machines = {label: Machine(at / label) for label in self.labels}
        self.client = Client(f"unix://{at}/api.sock")
        self._service: Child | None = None
        self._undo = contextlib.ExitStack()

    def open(self) -> None:
        """Make everything but the service."""
        if self._forks is None:
            self._forks = self._undo.enter_context(ForkServer())
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
        conf.write(
            self.at,
            power,
            stop_timeout=STOP_TIMEOUT,
            address=self.address,
            networks=NETWORKS.format(last=len(self.labels)) if self.alone else "",
            # A guest's namespace answers ARP and ping while no guest is in it
            power_signs="rpc,agent,session",
            power_interval=0.05,
            power_timeout=self._timeout,
            boot_timeout=self._timeout,
        )
        golden = self.at / "golden.raw"
        golden.write_bytes(self.golden)
        code, said = self.command("image", "import", "golden", str(golden))
        assert code == 0, said

    def command(self, *words: str) -> tuple[int, str]:
        """Run a zfsiscsi command to its end; return its exit code and all that it printed."""
        assert self._forks, "the farm is not open"
        argv = ["--conf", str(self.conf), *words]
        code, out, error = self._forks.run(argv, namespace=self.namespace, cwd=self.at)
        return code, out + error

    def _plug_in(self, number: int) -> None:
        """Make the namespace in which a guest runs, as malware on it would see it."""
        name, inside = f"host{number}", self._inside(number)
        at_server = f"addr add {self.server(number)}/24 dev {name}"
        for command in (
            f"link add {name} type veth peer name eth0 address {mac(number)}",
            at_server if self.alone else f"link set {name} master {BRIDGE}",
            f"link set {name} up",
        ):
            self.network.run(["ip", *command.split()])
        subprocess.run(["ip", "netns", "add", inside], check=True)
        self._undo.callback(subprocess.run, ["ip", "netns", "delete", inside], check=True)
        self.network.run(["ip", "link", "set", "eth0", "netns", inside])
        for command in (
            "link set lo up",
            f"addr add {self.address(number)}/24 dev eth0",
            "link set eth0 up",
        ):
            subprocess.run(["ip", "-n", inside, *command.split()], check=True)

    def inside(self, number: int, *command: str) -> None:
        """Run a command in the namespace of a host's guest."""
        subprocess.run(["ip", "netns", "exec", self._inside(number), *command], check=True)

    def _inside(self, number: int) -> str:
        return f"{self.network.name}-{number}"

    def address(self, number: int) -> IPv4Address:
        """Return a host's address."""
        return IPv4Address(f"10.99.{number}.2") if self.alone else host_address(number)

    def server(self, number: int) -> IPv4Address:
        """Return the server's address for a host."""
        return IPv4Address(f"10.99.{number}.1") if self.alone else SERVER.ip

    @property
    def namespace(self) -> Path:
        """Of the server."""
        return FOLDER / self.network.name

    def guest(self, label: str) -> Path:
        """Return the namespace of a host's guest."""
        return FOLDER / self._inside(self.labels.index(label) + 1)

    def guard(self) -> None:
        """Load the firewall, as its unit does."""
        code, said = self.command("netboot", "firewall", "--apply")
        assert code == 0, said

    def play(self, label: str, *options: str) -> None:
        """Decide what a guest does from its next power-on."""
        number = self.labels.index(label) + 1
        url = f"http://{self.server(number)}:8471/boot.ipxe?mac={mac(number)}"
        argv = ["nsenter", f"--net=/run/netns/{self._inside(number)}", "--", *PLAYED]
        state = self.machines[label].state
        argv += ["--pidfile", str(state / "pid"), "--script", url, *options]
        (state / "argv.json").write_text(json.dumps(argv))

    def fault(self, label: str, text: str) -> None:
        """Have a host's BMC fail, or work again when the text is empty."""
        path = self.machines[label].state / "fault"
        if text:
            path.write_text(text)
        else:
            path.unlink(missing_ok=True)

    def start(self) -> None:
        """Start the service, a new process, and wait until it answers."""
        assert self._forks, "the farm is not open"
        words = ["--conf", str(self.conf), "serve"]
        with self.log.open("ab") as log:
            self._service = self._forks.fork(
                words, namespace=self.namespace, cwd=self.at, outputs=[log, log]
            )
        self.wait(lambda: self.answers() or not self.runs, "the service's start")
        assert self.runs, self.seen()

    @property
    def pid(self) -> int | None:
        """Process id of the service; None before its start."""
        return self._service.pid if self._service else None

    @property
    def runs(self) -> bool:
        """Whether the service runs."""
        return self._service is not None and self._service.poll() is None

    def kill(self) -> None:
        """Kill the service (SIGKILL)."""
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        if self._service:
            self._service.send_signal(how)
            self.wait(lambda: not self.runs, f"the service's end by {how.name}")

    def answers(self) -> bool:
        """Tell whether the service answers."""
        try:
            return bool(self.client.hosts())
        except ZfsIscsiError:
            return False

    def states(self) -> dict[str, str]:
        """Return every host's state."""
        return {str(host["label"]): str(host["state"]) for host in self.client.hosts()}

    def wait(self, true: Callable[[], object], what: str, seconds: float = HANG) -> None:
        """Wait until something is true."""
        wait(true, seconds, f"waited for {what}", self.seen, pause=0.1)

    def seen(self) -> str:
        """Tell what there is to see of the service."""
        try:
            answer = str(self.states())
        except ZfsIscsiError as error:
            answer = f"no answer ({error})"
        life = "runs" if self.runs else "does not run"
        return f"the service {life}; {answer}; {patience.tail(self.log)}"

    def close(self) -> None:
        """End and remove everything."""
        try:
            self._end(signal.SIGTERM)
        finally:
            self._undo.close()
        subprocess.run(["chattr", "-R", "-f", "-i", str(self.at)], check=False)

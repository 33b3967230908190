"""Cuckoo3's machinery for physical hosts that boot from disks which a service resets.

It lies in cuckoo/machineries/modules and belongs to cuckoo-zfsiscsi: docs/cuckoo3.rst.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from cuckoo.common import config, machines
from cuckoo.common.log import CuckooGlobalLogger
from cuckoo.machineries import errors
from cuckoo.machineries.abstracts import Machinery
from cuckoo.machineries.config import MACAddress, typeloaders

try:
    from cuckoo_zfsiscsi.cape.client import Client, ServiceError
except ImportError:  # said by verify_dependencies(), where this machinery is wanted
    Client = None

START_TIMEOUT = 110.0
"""Seconds: Cuckoo3's task waits 120 s for a machine to run, then gives up without a reason."""
STOP_TIMEOUT = 15.0
"""Seconds for the power to be proved off, which takes one of four threads: the rest is polled."""

log = CuckooGlobalLogger(__name__)

# Cuckoo3 imports this file to check `machineries` in cuckoo.yaml, and reads zfsiscsi.yaml later.
typeloaders["zfsiscsi.yaml"] = {
    "service": config.String(default_val="http://127.0.0.1:8470"),
    "token_file": config.FilePath(readable=True, allow_empty=True, required=False),
    "ca_file": config.FilePath(readable=True, allow_empty=True, required=False),
    "interface": config.NetworkInterface(default_val="br-lab", must_be_up=False),
    "machines": config.NestedDictionary(
        "pc1",
        {
            "label": config.String(default_val="pc1"),
            "ip": config.String(default_val="10.99.0.11"),
            "platform": config.String(default_val="windows", to_lower=True),
            "os_version": config.String(default_val="10"),
            "architecture": config.String(default_val="amd64", to_lower=True),
            "mac_address": MACAddress(allow_empty=True, to_lower=True, required=False),
            "snapshot": config.String(allow_empty=True, required=False),
            "interface": config.NetworkInterface(
                allow_empty=True, must_be_up=False, must_exist=False, required=False
            ),
            "agent_port": config.Int(
                default_val=8000, required=False, min_value=1, max_value=2**16 - 1
            ),
            "tags": config.List(config.String, [], allow_empty=True),
        },
    ),
}


class ZfsIscsi(Machinery):
    """Asks the service, and decides nothing about hosts itself."""

    name = "zfsiscsi"

    def init(self) -> None:
        """Begin: nothing is asked yet."""
        self._client = Client(
            self.cfg["service"],
            self.cfg.get("token_file") or None,
            ca_file=self.cfg.get("ca_file") or None,
        )
        # machine's name: when the start must have come to a run
        self._starting: dict[str, float] = {}
        self._stopping: set[str] = set()
        self._portals: list[tuple[str, int]] = []

    def load_machines(self) -> None:
        """Load them, and end what an earlier life of Cuckoo3 has left running."""
        super().load_machines()
        try:
            known = {host["label"]: host for host in self._client.hosts()}
            view = self._client.cape()
        except ServiceError as error:
            raise errors.MachineryConnectionError(str(error)) from None
        self._portals = [(net["portal"], port) for net in view["networks"] for port in net["ports"]]
        for machine in self.machines:
            if machine.label not in known:
                raise errors.MachineNotFoundError(
                    f"the service at {self.cfg['service']} has no host {machine.label} "
                    f"(it has: {', '.join(known)})"
                )
            if known[machine.label]["run"]:
                self.stop(machine)

    def restore_start(self, machine: machines.Machine) -> None:
        """Begin. state() tells how it goes on, and why it does not."""
        self._starting[machine.name] = time.monotonic() + START_TIMEOUT
        self._start(machine)

    def _start(self, machine: machines.Machine) -> None:
        left = max(1.0, self._starting[machine.name] - time.monotonic())
        task, image = machine.locked_by or None, machine.snapshot or None
        try:
            self._client.start(machine.label, left, task, image, wait=False)
        except ServiceError as error:
            if error.status != 503:
                raise errors.MachineryError(str(error)) from None
            # In quarantine, which may end in time: Cuckoo3 would disable the machine for good.

    def stop(self, machine: machines.Machine) -> None:
        """Cut the power. If that is not proved in time, the service goes on, and state() tells."""
        self._starting.pop(machine.name, None)
        try:
            if not self._client.host(machine.label)["run"]:
                raise errors.MachineStateReachedError(f"{machine.label} has no run to stop")
            self._client.stop(machine.label, STOP_TIMEOUT)
        except ServiceError as error:
            if error.status != 503:
                raise errors.MachineryError(str(error)) from None
            log.warning("Not proved off yet.", machine=machine.name, error=error)
            self._stopping.add(machine.name)

    def acpi_stop(self, machine: machines.Machine) -> None:
        """As stop(): the disk is thrown away, there is nothing to save."""
        self.stop(machine)

    def state(self, machine: machines.Machine) -> str:
        """Return how far a start or a stop has come. Raises why a start has failed."""
        end = self._starting.get(machine.name)
        try:
            host = self._client.host(machine.label)
        except ServiceError as error:
            if not error.unreachable:
                raise errors.MachineryError(str(error)) from None
            # It may be back in a moment. Cuckoo3 asks again, as long as its own patience lasts.
            log.warning("No answer.", machine=machine.name, error=error)
            return machines.States.STARTING if end else machines.States.STOPPING
        if host["run"] and host["state"] != "running":
            return machines.States.STARTING
        if end and not host["run"] and time.monotonic() < end:
            self._start(machine)
            return machines.States.STARTING
        self._starting.pop(machine.name, None)
        if host["run"]:
            return machines.States.RUNNING
        if end:
            raise errors.MachineryError(
                host["reason"] or host["start_error"] or "no run came of it"
            )
        if host["state"] == "quarantined" and machine.name in self._stopping:
            return machines.States.STOPPING
        self._stopping.discard(machine.name)
        return machines.States.POWEROFF

    def start_netcapture(
        self,
        machine: machines.Machine,
        pcap_path: Path,
        ignore_ip_ports: Sequence[tuple[str, int]] = (),
    ) -> None:
        """Leave out the traffic of the host's disk, too."""
        super().start_netcapture(machine, pcap_path, [*ignore_ip_ports, *self._portals])

    @staticmethod
    def verify_dependencies() -> None:
        """Say what is missing."""
        if Client is None:
            raise errors.MachineryDependencyError(
                "Python package 'cuckoo-zfsiscsi' is not installed. The service has it: "
                "pip install http://ADDRESS:8470/plugin/cuckoo_zfsiscsi-VERSION-py3-none-any.whl"
            )

"""What CAPE waits for in start(): a host that stands by, beside a VM's snapshot of the same guest.

    .venv/bin/python -m bench.start [--runs 50] [--json]

start   the plugin's start() of a prewarmed host: the service asks RPC and agent whether it is
        alive, the target for its session, the BMC if it did not lately, and hands it over. Each run
        has a boot of its own, so this takes 20 s and more a run.
loadvm  what a VM machinery does instead: QEMU, of the same machine and guest, is started from a
        snapshot of its memory, until RPC and agent answer.

Both in turns. The bar: 0.3 s for the 99th percentile of start.
"""

from __future__ import annotations

import argparse
import json
import math
import socket
import subprocess
import time
from pathlib import Path
from statistics import median
from typing import Any

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.lab import guest_image
from cuckoo_zfsiscsi.lab.bring_up import Lab
from cuckoo_zfsiscsi.lab.conf import LABEL
from cuckoo_zfsiscsi.lab.machine import Machine
from cuckoo_zfsiscsi.lab.watch import inside
from cuckoo_zfsiscsi.readiness import agent, rpc

BAR = 0.3
"""Seconds."""
READY = 300.0
SNAPSHOT = "ready"
STANDING_BY = 3.0
"""Seconds after which a host that became ready is looked at again before it is handed over."""


def add_drive(machine: Machine) -> None:
    """Give QEMU a place for snapshots: no device, so the guest sees nothing of it."""
    drive = machine.state / "snapshots.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", drive, "2G"], check=True)
    argv = machine.state / "argv.json"
    arguments = [*json.loads(argv.read_text()), "-drive", f"if=none,id=snapshots,file={drive}"]
    argv.write_text(json.dumps(arguments))


def ask_qemu(machine: Machine, command: str) -> str:
    """Give QEMU's human monitor a command; return what it printed."""
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(60)
        peer.connect(str(machine.state / "qmp"))
        with peer.makefile("rwb") as lines:
            lines.readline()
            for name, arguments in (
                ("qmp_capabilities", {}),
                ("human-monitor-command", {"command-line": command}),
            ):
                text = json.dumps({"execute": name, "arguments": arguments})
                lines.write(text.encode() + b"\n")
                lines.flush()
                while "return" not in (answer := json.loads(lines.readline())):
                    if "error" in answer:
                        raise RuntimeError(f"QEMU: {answer}")
    return str(answer["return"])


def await_ready(lab: Lab) -> None:
    """Wait for the prewarmed host, and until it has stood by for a moment."""
    deadline = Deadline(READY)
    while lab.client.host(LABEL)["state"] != "ready":
        deadline.sleep(0.1, "prewarming")
    time.sleep(STANDING_BY)


def start(lab: Lab) -> float:
    """Return how many seconds the plugin's start takes."""
    await_ready(lab)
    began = time.monotonic()
    lab.plugin.start(LABEL)
    took = time.monotonic() - began
    if not lab.client.host(LABEL)["last_boot"]["prewarmed"]:
        raise RuntimeError("the host was not prewarmed")
    return took


def load(lab: Lab) -> float:
    """Start QEMU from the snapshot; return seconds until RPC and agent answer."""
    argv = json.loads((lab.machine.state / "argv.json").read_text())
    began = time.monotonic()
    subprocess.run([*argv, "-loadvm", SNAPSHOT], check=True)
    try:
        deadline = Deadline(60)
        while not inside(lab.network, lambda: answers(lab.address)):
            deadline.sleep(0.01, "loadvm")
        return time.monotonic() - began
    finally:
        lab.machine.off()


def answers(address: str) -> bool:
    """Tell whether RPC and agent answer now."""
    return all(probe(address, deadline=Deadline(0.5)).ok for probe in (rpc.probe, agent.probe))


def percentile(values: list[float], percent: int) -> float:
    """Return the smallest value that so many percent of them do not exceed."""
    return sorted(values)[math.ceil(len(values) * percent / 100) - 1]


def measure(runs: int, image: Path) -> dict[str, Any]:
    """Measure in turns; return seconds."""
    starts, loads = list[float](), list[float]()
    lab = Lab(firmware="bios", prewarm=True, image=image, say=lambda _what: None)
    add_drive(lab.machine)
    with lab:
        for number in range(1, runs + 1):
            starts.append(start(lab))
            if number == 1 and (said := ask_qemu(lab.machine, f"savevm {SNAPSHOT}")):
                raise RuntimeError(f"savevm: {said}")
            lab.plugin.stop(LABEL)
            lab.client.maintenance(LABEL, True)
            deadline = Deadline(60)
            while lab.client.host(LABEL)["state"] != "maintenance":
                deadline.sleep(0.1, "maintenance")
            loads.append(load(lab))
            lab.client.maintenance(LABEL, False)
            print(f"{number:4} {starts[-1]:8.3f} {loads[-1]:8.3f}", flush=True)
    return {
        "runs": runs,
        "start_s": starts,
        "loadvm_s": loads,
        "start_median_s": median(starts),
        "start_p99_s": percentile(starts, 99),
        "loadvm_median_s": median(loads),
        "loadvm_p99_s": percentile(loads, 99),
    }


def main() -> int:
    """Print the table; 1 if the bar is not held."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--json", action="store_true", help="print JSON in the end, for programs")
    options = parser.parse_args()
    image = guest_image.build(guest_image.default_cache(), progress=print)
    print(" run  start s loadvm s")
    result = measure(options.runs, image)
    for name in ("median", "p99"):
        print(f"{name:>6} {result[f'start_{name}_s']:6.3f} {result[f'loadvm_{name}_s']:8.3f}")
    if options.json:
        print(json.dumps(result, indent=2))
    return int(result["start_p99_s"] > BAR)


if __name__ == "__main__":
    raise SystemExit(main())

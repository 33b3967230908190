"""CAPE's stand-in as a process of its own, so that it can be killed: see bench.faults.

    python -m bench.cape_process CONF NETWORK

Works on the tasks in the database beside the configuration until SIGTERM. Each analysis asks the
guest's agent what is in its boot sector, and then writes over it. A line of JSON per analysis goes
to analyses.json there; how long the main thread stood still, to lives.json.
"""

from __future__ import annotations

import http.client
import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

from cuckoo_zfsiscsi.cape.client import Client
from cuckoo_zfsiscsi.lab.cape_database import Machine
from cuckoo_zfsiscsi.lab.cape_scheduler import Scheduler
from cuckoo_zfsiscsi.lab.cape_standin import CuckooGuestCriticalTimeout, load_plugin
from cuckoo_zfsiscsi.lab.network import Network
from cuckoo_zfsiscsi.lab.watch import enter

TURN = 0.2
RUN = 1.5
"""Seconds that a sample runs."""
STUCK = 120.0


def ask(address: str, method: str, path: str) -> dict[str, Any]:
    """Ask the guest's agent; one that is silent is CAPE's critical timeout."""
    peer = http.client.HTTPConnection(address, 8000, timeout=5)
    try:
        peer.request(method, path)
        answer: dict[str, Any] = json.loads(peer.getresponse().read())
    except (OSError, http.client.HTTPException) as error:
        raise CuckooGuestCriticalTimeout(f"{address}: no agent: {error}") from None
    finally:
        peer.close()
    return answer


def main() -> None:
    """Run one life of CAPE."""
    conf, network = Path(sys.argv[1]), Network(sys.argv[2])
    enter(network)  # before any thread is made: they inherit it
    plugin = load_plugin(conf)
    client = Client(f"unix://{conf.parent}/api.sock")
    analyses, lives = conf.with_name("analyses.json"), conf.with_name("lives.json")

    def note(path: Path, **what: object) -> None:
        with path.open("a") as file:
            file.write(json.dumps(what) + "\n")

    def analyse(task: int, machine: Machine) -> None:
        sector = ask(machine.ip, "GET", "/sector")["sha256"]
        generation = client.host(machine.label)["generation"]
        note(analyses, task=task, host=machine.label, generation=generation, sector=sector)
        ask(machine.ip, "POST", "/infect")
        time.sleep(RUN)
        ask(machine.ip, "GET", "/sector")

    scheduler = Scheduler(plugin, analyse, turn=TURN, stuck_after=STUCK)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    began = time.monotonic()
    scheduler.start()
    note(lives, started_s=time.monotonic() - began)
    longest = 0.0
    try:
        while True:
            began = time.monotonic()
            worked = scheduler.turn()
            took = time.monotonic() - began
            if took > longest:  # at once: this process may be killed
                longest = took
                note(lives, longest_turn_s=longest)
            if not worked:
                time.sleep(TURN)
    finally:
        scheduler.shutdown()


if __name__ == "__main__":
    main()

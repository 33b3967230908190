"""Many tasks over a few hosts, with a fault in every fifth: no dirty start, no host lost.

    .venv/bin/python -m bench.faults [--tasks 50] [--hosts 4] [--json FILE]

The service, its target, its DHCP server and one BMC per host are real; the guests are played, and
log in to their disks. CAPE is its stand-in, with the plugin as it is, in a process of its own. The
faults, in turn: the BMC answers too late; power stays on; the host does not boot; the agent dies in
the analysis; the service is killed and started again; CAPE is killed and started again.

Every task must end completed or failed, every host be in use again, no analysis begin on another
boot sector than the golden image's, no disk be used twice, and CAPE's main thread never stand still
for longer than 15 s.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cuckoo_zfsiscsi.lab.cape_database import Database
from tests.faults.farm import Farm

EVERY = 5
FREEZE = 15.0
"""Seconds that CAPE may stand still."""
BACK = 240.0
"""Seconds after the last task within which every host must be in use again."""
PATIENCE = 1800.0


class FaultRun:
    """One run: tasks are submitted one by one, and every fifth gets a fault."""

    def __init__(self, farm: Farm, tasks: int) -> None:
        self.farm = farm
        self.tasks = tasks
        self.db = Database(farm.at / "cape.db")
        self.faults: list[dict[str, Any]] = []
        self._cape: subprocess.Popen[bytes] | None = None
        self._kinds: dict[str, Callable[[int], None]] = {
            "BMC too late": lambda task: self._with_bmc(task, "slow 20", 25.0),
            "power stuck on": lambda task: self._with_bmc(task, "stuck-on", 25.0),
            "no boot": self._no_boot,
            "agent dead": self._agent_dead,
            "service killed": self._service_killed,
            "CAPE killed": self._cape_killed,
        }

    def run(self) -> None:
        """Do all tasks."""
        self.start_cape()
        kinds = list(self._kinds)
        for number in range(1, self.tasks + 1):
            # Some tasks wait, so that all hosts have work; not all, so that faults spread out
            self._until(lambda: self._pending() < len(self.farm.labels), "room in the queue")
            task = self.submit()
            if number % EVERY == 0:
                kind = kinds[(number // EVERY - 1) % len(kinds)]
                began = time.monotonic()
                self._kinds[kind](task)
                seconds = time.monotonic() - began
                self.faults.append({"task": task, "fault": kind, "seconds": seconds})
                print(f"task {task:3}: {kind}", flush=True)
        self._until(lambda: not self._open(), "the end of all tasks")

    def submit(self) -> int:
        """Add a task; return its id."""
        with self.db.session.begin():
            self.db.do("INSERT INTO tasks (machine) VALUES (NULL)")
            return int(self.db.do("SELECT last_insert_rowid() AS id")[0]["id"])

    def start_cape(self) -> None:
        """Start CAPE's stand-in."""
        argv = [sys.executable, "-m", "bench.cape_process", str(self.farm.conf)]
        argv.append(self.farm.network.name)
        with (self.farm.at / "cape.log").open("ab") as log:
            self._cape = subprocess.Popen(argv, stdout=log, stderr=log)

    def end_cape(self) -> None:
        """End it, killing it if need be."""
        if self._cape and self._cape.poll() is None:
            self._cape.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._cape.wait(30)
            self._cape.kill()

    def back(self) -> list[str]:
        """Wait for the hosts; return those that are lost."""
        end = time.monotonic() + BACK
        while (lost := self._lost()) and time.monotonic() < end:
            time.sleep(0.5)
        return lost

    def _lost(self) -> list[str]:
        rows = {row.label: row for row in self.db.list_machines(include_reserved=True)}
        states = self.farm.states()
        return [
            label
            for label in self.farm.labels
            if label not in rows or rows[label].locked or states[label] != "clean"
        ]

    # The faults.

    def _host_of(self, task: int) -> str:
        """Wait until a task's sample runs; return where."""

        def running() -> str:
            seen = [one for one in lines(self.farm.at / "analyses.json") if one["task"] == task]
            return str(seen[-1]["host"]) if seen else ""

        self._until(running, f"the analysis of task {task}")
        return running()

    def _with_bmc(self, task: int, fault: str, seconds: float) -> None:
        label = self._host_of(task)
        self.farm.fault(label, fault)
        time.sleep(seconds)
        self.farm.fault(label, "")

    def _no_boot(self, _task: int) -> None:
        """Whoever boots next finds no disk, until one host is in quarantine for it."""
        for label in self.farm.labels:
            self.farm.play(label, "--no-login")
        self._until(lambda: "quarantined" in self.farm.states().values(), "the failure")
        for label in self.farm.labels:
            self.farm.play(label)

    def _agent_dead(self, task: int) -> None:
        label = self._host_of(task)
        if pid := self.farm.machines[label].pid:
            os.kill(pid, signal.SIGSTOP)

    def _service_killed(self, task: int) -> None:
        self._host_of(task)
        self.farm.kill()
        self.farm.start()

    def _cape_killed(self, task: int) -> None:
        self._host_of(task)
        if self._cape:
            self._cape.kill()
            self._cape.wait()
        self.start_cape()

    def _pending(self) -> int:
        return len(self.db.do("SELECT 1 FROM tasks WHERE status = 'pending'"))

    def _open(self) -> int:
        return len(self.db.do("SELECT 1 FROM tasks WHERE status IN ('pending', 'running')"))

    def _until(self, true: Callable[[], object], what: str) -> None:
        self.farm.wait(true, what, PATIENCE)


def lines(path: Path) -> list[dict[str, Any]]:
    """Return the JSON lines of a file."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def judge(run: FaultRun, lost: list[str]) -> dict[str, Any]:
    """Return what came out."""
    at, golden = run.farm.at, hashlib.sha256(run.farm.golden[:512]).hexdigest()
    analyses, lives = lines(at / "analyses.json"), lines(at / "lives.json")
    rows = run.db.do("SELECT * FROM tasks ORDER BY id")
    disks = Counter((one["host"], one["generation"]) for one in analyses)
    return {
        "tasks": len(rows),
        "ended": dict(Counter(str(row["status"]) for row in rows)),
        "attempts": sum(int(row["attempts"]) for row in rows),
        "analyses": len(analyses),
        "dirty_starts": sum(one["sector"] != golden for one in analyses),
        "disks_used_twice": sum(times > 1 for times in disks.values()),
        "hosts_lost": lost,
        "longest_freeze_s": max(one.get("longest_turn_s", 0.0) for one in lives),
        "longest_cape_start_s": max(one.get("started_s", 0.0) for one in lives),
        "faults": [
            {
                **fault,
                "ended": str(rows[fault["task"] - 1]["status"]),
                "attempts": int(rows[fault["task"] - 1]["attempts"]),
                "told": run.db.errors(fault["task"])[:1],
            }
            for fault in run.faults
        ],
    }


def show(result: dict[str, Any]) -> None:
    """Print the table."""
    print(f"\n{'task':>4}  {'fault':16} {'ended':16} attempts  told")
    for fault in result["faults"]:
        told = (fault["told"] or ["-"])[0][:70]
        what = f"{fault['fault']:16} {fault['ended']:16} {fault['attempts']:8}"
        print(f"{fault['task']:4}  {what}  {told}")
    for key, value in result.items():
        if key != "faults":
            print(f"{key:22} {value:.1f}" if isinstance(value, float) else f"{key:22} {value}")


def is_good(result: dict[str, Any], freeze: float) -> bool:
    """Tell whether all is as it must be, and CAPE did not stand still for longer than that."""
    return (
        set(result["ended"]) <= {"completed", "failed_analysis"}
        and not result["dirty_starts"]
        and not result["disks_used_twice"]
        and not result["hosts_lost"]
        and result["longest_freeze_s"] <= freeze
    )


def main() -> int:
    """Run it; 1 if something is not as it must be."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--tasks", type=int, default=50)
    parser.add_argument("--hosts", type=int, default=4)
    parser.add_argument("--json", type=Path, help="write what came out to this file")
    parser.add_argument(
        "--freeze", type=float, default=FREEZE, help="seconds that CAPE may stand still"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="zfsiscsi-farm-") as folder:
        farm = Farm(Path(folder), options.hosts)
        run = None
        try:
            farm.open()
            farm.start()
            run = FaultRun(farm, options.tasks)
            run.run()
            result = judge(run, run.back())
        finally:
            if run:
                run.end_cape()
            farm.close()
    show(result)
    good = is_good(result, options.freeze)
    print("PASS" if good else "FAIL")
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    return int(not good)


if __name__ == "__main__":
    raise SystemExit(main())

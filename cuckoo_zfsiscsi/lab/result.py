"""What one call of the lab showed, whether it is as it must be, and as a JSON document."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any

from cuckoo_zfsiscsi.lab.qemu import MEMORY
from cuckoo_zfsiscsi.lab.routes.route import Route
from cuckoo_zfsiscsi.lab.routes.traffic import ANSWERS, Seen
from cuckoo_zfsiscsi.lab.runs import Reboot, Run, WithoutReset
from cuckoo_zfsiscsi.lab.way import ResetOn


@dataclass(slots=True)
class Result:
    """All that one call of the lab showed."""

    firmware: str
    store: str
    power: str
    prewarm: bool
    wanted: int
    """Runs asked for."""
    runs: list[Run] = field(default_factory=list)
    without_reset: WithoutReset | None = None
    after: Run | None = None
    """The last look: clean again after all."""
    error: str = ""
    reset_on: ResetOn = "start"
    reboot: Run | None = None
    """With reset_on = boot, instead of `without_reset`: what a mere press of the reset button, in
    the middle of the last run, made of the infected host."""
    route: Route | None = None
    """Of the runs; None: there was nothing beyond the hosts' network."""
    reboot_in_run: Reboot | None = None
    """Of a run that is not infected yet, with reset_on = start."""
    total: Seen | None = None
    """What captures show of all runs together."""
    capture: Path | None = None
    """That of the host's port, as it was kept."""

    @property
    def faults(self) -> list[str]:
        """What is not as it must be; empty is PASS."""
        if self.error:
            return [self.error]
        found = []
        every = [*self.runs, *(run for run in (self.reboot, self.after) if run)]
        if len(self.runs) < self.wanted or self.after is None:
            found.append(f"{len(self.runs)} of {self.wanted} runs, and a last look")
        found += [f"run {run.number}: {run.detail}" for run in every if not run.clean]
        generations = [run.generation for run in every]
        if generations != sorted(set(generations)):
            found.append(f"a disk was used again: generations {generations}")
        if self.reset_on == "boot":
            if self.reboot is None:
                found.append("not shown what a mere reboot does")
        elif self.without_reset is None:
            found.append("not shown what happens without the reset")
        elif self.without_reset.came_up:
            found.append("the infected host came up without the reset")
        return found + self._of_route()

    def _of_route(self) -> list[str]:
        """Return what is not as it must be with the route."""
        if self.route is None:
            return []
        found = []
        wanted = ANSWERS.get(self.route, "")
        calls = [(f"run {run.number}", run.seen) for run in self.runs]
        if self.reboot_in_run and self.reboot_in_run.seen:
            calls.append(("after the reboot within run 1", self.reboot_in_run.seen))
        for when, seen in calls:
            if seen is None:
                found.append(f"{when}: not shown whom the sample reaches")
            elif seen.answered != wanted:
                what = f"{seen.answered or 'nobody'} answered the sample, not {wanted or 'nobody'}"
                found.append(f"{when}, route {self.route}: {what}")
        if self.total is None:
            found.append("the captures were not looked at")
        else:
            found += [f"route {self.route}: {one}" for one in self.total.faults(self.route)]
        if self.reset_on == "start" and self.reboot_in_run is None:
            found.append("not shown what a reboot within a run does")
        elif self.reboot_in_run and not self.reboot_in_run.same_disk:
            found.append("after a reboot within the run the disk was another one")
        return found

    @property
    def mean_s(self) -> float | None:
        """Mean recovery time of the runs, in seconds."""
        return mean(run.recovery_s for run in self.runs) if self.runs else None

    def document(self) -> dict[str, Any]:
        """Return the JSON document."""
        return {
            "result": "fail" if self.faults else "pass",
            "faults": self.faults,
            "firmware": self.firmware,
            "store": self.store,
            "power": self.power,
            "prewarm": self.prewarm,
            "machine": {"emulated": "QEMU, TCG", "memory_mib": MEMORY, "cpus": os.cpu_count()},
            "mean_recovery_s": self.mean_s,
            "runs": [asdict(run) for run in self.runs],
            "reset_on": self.reset_on,
            "reboot": asdict(self.reboot) if self.reboot else None,
            "without_reset": asdict(self.without_reset) if self.without_reset else None,
            "route": self.route,
            "reboot_in_run": asdict(self.reboot_in_run) if self.reboot_in_run else None,
            "total": asdict(self.total) if self.total else None,
            "capture": str(self.capture) if self.capture else None,
            "after": asdict(self.after) if self.after else None,
        }

    def write(self, path: Path) -> None:
        """Write the JSON document."""
        path.write_text(json.dumps(self.document(), indent=2) + "\n")

"""What the lab showed: a table for people, and a JSON document for programs."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from cuckoo_zfsiscsi.lab.runs import Run, WithoutReset

PAPER = {
    "VMware ESXi 6.0": (10, 10, 10),
    "KVM": (13, 12, 13),
    "Deep Freeze 8.38": (39, 39, 39),
    "FOG 1.2": (646, 625, 611),
    "ZFS + iSCSI": (45, 42, 45),
}
"""Seconds: "Bootable system snapshot for physical machines", 2017, table 4."""


@dataclass(slots=True)
class Result:
    """All that one call of the lab showed."""

    firmware: str
    prewarm: bool
    wanted: int
    """Runs asked for."""
    runs: list[Run] = field(default_factory=list)
    without_reset: WithoutReset | None = None
    after: Run | None = None
    """The last look: clean again after the host was powered up without a reset."""
    error: str = ""

    @property
    def faults(self) -> list[str]:
        """What is not as it must be; empty is PASS."""
        found = [self.error] if self.error else []
        if len(self.runs) < self.wanted:
            found.append(f"{len(self.runs)} of {self.wanted} runs")
        every = [*self.runs, *([self.after] if self.after else [])]
        found += [f"run {run.number}: {run.detail}" for run in every if not run.clean]
        generations = [run.generation for run in every]
        if generations != sorted(set(generations)):
            found.append(f"generations do not grow: {generations}")
        if self.without_reset is None:
            found.append("not shown what happens without the reset")
        elif self.without_reset.came_up:
            found.append("the host came up without the reset: it was not infected")
        if self.after is None:
            found.append("not shown that the host is clean at the end")
        return found

    @property
    def mean(self) -> float | None:
        """Mean recovery time of the runs, in seconds."""
        if not self.runs:
            return None
        return sum(run.recovery_s for run in self.runs) / len(self.runs)

    def document(self) -> dict[str, Any]:
        """Return the JSON document."""
        return {
            "result": "fail" if self.faults else "pass",
            "faults": self.faults,
            "firmware": self.firmware,
            "prewarm": self.prewarm,
            "mean_recovery_s": self.mean,
            "runs": [asdict(run) for run in self.runs],
            "without_reset": asdict(self.without_reset) if self.without_reset else None,
            "after": asdict(self.after) if self.after else None,
            "machine": {"cpus": os.cpu_count(), "emulated": "QEMU, TCG, 256 MiB"},
        }

    def write(self, path: Path) -> None:
        """Write the JSON document."""
        path.write_text(json.dumps(self.document(), indent=2) + "\n")

    def show(self, console: Console) -> None:
        """Print tables and verdict."""
        if self.runs:
            console.print(self._table())
            console.print(
                "This lab is QEMU without hardware acceleration and boots Linux; the paper's is an "
                "HP ProDesk 400 G2 Mini\nthat boots Windows 7 over Gigabit Ethernet: other "
                "hardware, so no comparison of speed."
            )
        for fault in self.faults:
            console.print(f"[red]{fault}[/]", highlight=False)
        console.print("[red]FAIL[/]" if self.faults else "[green]PASS[/]")

    def _table(self) -> Table:
        table = Table(title="Recovery time in seconds: RPC silent -> RPC answers again")
        table.add_column("")
        here = "this lab, prewarmed" if self.prewarm else "this lab"
        for name in (here, "CAPE waited", "generation", "found", *PAPER):
            table.add_column(name, justify="left" if name == "found" else "right")
        for index in range(max(len(self.runs), 3)):
            row = [f"run {index + 1}"]
            if index < len(self.runs):
                run = self.runs[index]
                row += [f"{run.recovery_s:.1f}", f"{run.waited_s:.1f}", str(run.generation)]
                row.append("clean" if run.clean else "NOT CLEAN")
            else:
                row += [""] * 4
            row += [str(times[index]) if index < len(times) else "" for times in PAPER.values()]
            table.add_row(*row)
        waited = sum(run.waited_s for run in self.runs) / len(self.runs)
        means = [f"{sum(times) / len(times):.1f}" for times in PAPER.values()]
        table.add_row("mean", f"{self.mean:.1f}", f"{waited:.1f}", "", "", *means, style="bold")
        return table

"""What the lab prints: progress while one waits, then tables."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from statistics import mean
from typing import Any

from rich.console import Console
from rich.table import Table

from cuckoo_zfsiscsi.lab.runs import RunResult, WithoutReset
from cuckoo_zfsiscsi.service.report import STAGES

PAPER = (
    ("VMware ESXi 6.0", (10, 10, 10)),
    ("KVM (Linux 4.4)", (13, 12, 13)),
    ("Deep Freeze 8.38", (39, 39, 39)),
    ("FOG 1.2", (646, 625, 611)),
    ("ZFS + iSCSI", (45, 42, 45)),
)
"""Table 4 of the paper: recovery times in seconds."""
OVERHEAD = ("fence", "swap", "prove", "arm")

console = Console(highlight=False, soft_wrap=True)


class Progress:
    """Says what is going on, line by line, each with the seconds since the lab began."""

    def __init__(self) -> None:
        self._begin = time.monotonic()

    def say(self, what: str) -> None:
        """Begin something."""
        console.print(f"[dim]{time.monotonic() - self._begin:6.1f}[/]  {what}")

    def stage(self, stage: str, seconds: float) -> None:
        """Tell how far a boot is."""
        mark = "[green]" if stage == STAGES[-1] else "[cyan]"
        now = time.monotonic() - self._begin
        console.print(f"[dim]{now:6.1f}[/]      {mark}{stage:<7}[/]{seconds:6.1f} s")


def print_runs(runs: Sequence[RunResult], *, prewarm: bool) -> None:
    """Print the table of recovery times beside the paper's."""
    table = Table(title="Recovery in this lab, seconds (an emulated machine)", title_justify="left")
    for column in ("run", "recovery", *(["start()"] if prewarm else []), "disk", "generation"):
        table.add_column(column, justify="right")
    for column in ("reset", *STAGES):
        table.add_column(column, justify="right", style="dim")
    for number, run in enumerate(runs, 1):
        reset = sum(run.stages.get(step, 0.0) for step in OVERHEAD)
        table.add_row(
            str(number),
            f"{run.recovery_s:.1f}",
            *([f"{run.start_s:.2f}"] if prewarm else []),
            "[green]clean[/]" if run.clean else "[red]NOT CLEAN[/]",
            str(run.generation),
            f"{reset:.2f}",
            *(f"{run.stages[stage]:.1f}" if stage in run.stages else "-" for stage in STAGES),
        )
    table.add_section()
    table.add_row("mean", f"{mean(run.recovery_s for run in runs):.1f}")
    console.print(table)
    console.print(
        "recovery: RPC unreachable, probed from outside every 0.1 s; run 1 counts from its start.\n"
        "reset: fence + swap + prove + arm. power to agent: since the power-on request.",
        style="dim",
    )


def print_paper() -> None:
    """Print the paper's table 4, named as other hardware."""
    table = Table(
        title="The paper's table 4, seconds (HP ProDesk 400 G2 Mini, Windows 7: other hardware)",
        title_justify="left",
    )
    for column in ("", "run 1", "run 2", "run 3", "mean"):
        table.add_column(column, justify="right" if column else "left")
    for name, times in PAPER:
        table.add_row(name, *map(str, times), f"{mean(times):.1f}")
    console.print(table)


def print_without_reset(seen: WithoutReset) -> None:
    """Print what an infected host did that was only rebooted."""
    if seen.came_up:
        console.print("[red]without the reset: the infected host came up again[/]")
    else:
        console.print(
            f"without the reset: no RPC in {seen.waited_s:.0f} s; the host's console said"
        )
        for line in seen.console:
            console.print(f"    {line}", style="dim", markup=False)


def as_json(runs: Sequence[RunResult], seen: WithoutReset | None, error: str) -> dict[str, Any]:
    """Return the lab's result: `result` is pass or fail."""
    return {
        "result": "pass" if passed(runs, seen, error) else "fail",
        "error": error,
        "runs": [asdict(run) for run in runs],
        "without_reset": asdict(seen) if seen else None,
    }


def passed(runs: Sequence[RunResult], seen: WithoutReset | None, error: str) -> bool:
    """Return whether the lab showed what it is to show."""
    all_clean = bool(runs) and all(run.clean for run in runs)
    return not error and all_clean and seen is not None and not seen.came_up

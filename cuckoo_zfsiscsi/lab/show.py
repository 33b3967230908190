"""What the lab prints: progress while one waits, then tables and a verdict."""

from __future__ import annotations

import time
from statistics import mean

from rich.console import Console
from rich.table import Table

from cuckoo_zfsiscsi.lab.result import Result
from cuckoo_zfsiscsi.lab.routes.outside import how_to_verify
from cuckoo_zfsiscsi.lab.runs import Run
from cuckoo_zfsiscsi.measure.show import BOOT, make_table, paper_table, reset_s

SHOWN = tuple(stage for stage in BOOT if stage != "script")
"""Stages in the table, which has 80 columns: the script comes at once after the address."""


class Progress:
    """Says what is going on: a line for each thing, begun with the seconds since the start."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()
        self._open = False

    def say(self, what: str) -> None:
        """Begin a line."""
        self.end()
        seconds = time.monotonic() - self._began
        self._console.print(f"[dim]{seconds:6.1f}[/]  {what}", end="")
        self._open = True

    def stage(self, name: str, seconds: float) -> None:
        """Add a stage of a boot to the line, when it is reached."""
        self._console.print(f"  {name} [cyan]{seconds:.1f}[/]", end="")

    def end(self) -> None:
        """End the line."""
        if self._open:
            self._console.print()
        self._open = False


def print_result(console: Console, result: Result) -> None:
    """Print tables, what is wrong, and the verdict."""
    if result.runs:
        console.print()
        console.print(_runs(result))
        console.print(
            "recovery: RPC silent, probed from outside every 0.1 s; run 1: since power-on.\n"
            "C2: whether it answered the sample, by a capture of the host's port.\n"
            "reset: fence, swap, prove, arm. dhcp to agent: since the power-on request.",
            style="dim",
        )
        console.print(paper_table())
    if result.reboot:
        one = result.reboot
        console.print(
            f"A mere reboot of the infected host: {'clean' if one.clean else 'DIRTY'} after "
            f"{one.recovery_s:.1f} s, generation {one.generation}."
        )
    if result.reboot_in_run:
        again = result.reboot_in_run
        console.print(
            f"A reboot within run 1: {'the same' if again.same_disk else 'ANOTHER'} disk after "
            f"{again.seconds:.1f} s, generation {again.generation}."
        )
    if result.without_reset:
        seen = result.without_reset
        came_up = "RPC answered again" if seen.came_up else "no RPC"
        console.print(f"Without the reset: {came_up} in {seen.watched_s:.0f} s; its console said:")
        for line in seen.console:
            console.print(f"  {line}", style="dim", markup=False)
    if result.capture and result.total:
        of = f"{result.total.iscsi_to_gateway} of {result.total.iscsi} packets"
        console.print(
            f"To verify, from a capture of the host's port: iSCSI to the gateway ({of}); C2:"
        )
        for line in how_to_verify(result.capture):
            console.print(f"  {line}", style="dim", markup=False)
    for fault in result.faults:
        console.print(fault, style="red", markup=False)
    console.print("[red]FAIL[/]" if result.faults else "[green]PASS[/]")


def _runs(result: Result) -> Table:
    host = f"emulated host, {result.firmware.upper()}, {result.power}, store {result.store}"
    host += ", prewarmed" * result.prewarm
    host += ", reset on boot" * (result.reset_on == "boot")
    host += f", route {result.route}" if result.route else ""
    table = make_table(f"Recovery in this lab, seconds ({host})")
    for column in ("run", "recovery", "start", "disk", "C2", "gen.", "reset", *SHOWN):
        style = "dim" if column in ("reset", *SHOWN) else ""
        table.add_column(column, justify="right", style=style)
    for run in result.runs:
        table.add_row(
            str(run.number),
            f"{run.recovery_s:.1f}",
            f"{run.start_s:.1f}",
            "[green]clean[/]" if run.clean else "[red]dirty[/]",
            _c2(run),
            str(run.generation),
            f"{reset_s(run.stages):.2f}",
            *(f"{run.stages[stage]:.1f}" if stage in run.stages else "-" for stage in SHOWN),
        )
    table.add_section()
    start = mean(run.start_s for run in result.runs)
    table.add_row("mean", f"{result.mean_s:.1f}", f"{start:.1f}")
    return table


def _c2(run: Run) -> str:
    """Whether C2 was contacted, by the capture of the host's port."""
    if run.seen is None:
        return "-"
    return "inetsim" if run.seen.inetsim else "yes" if run.seen.c2 else "no"

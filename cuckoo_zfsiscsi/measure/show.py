"""Recovery times as tables, and as CSV."""

from __future__ import annotations

import csv
import io
from statistics import mean

from rich.box import SIMPLE_HEAD
from rich.table import Table

from cuckoo_zfsiscsi.measure.paper import MACHINE, TABLE_4
from cuckoo_zfsiscsi.measure.recovery import Measurement
from cuckoo_zfsiscsi.service.report import RESET_STAGES, STAGES

BOOT = tuple(stage for stage in STAGES if stage not in ("power", "tftp", "ipxe"))
"""Stages of a boot that are shown, in seconds since the power-on request."""


def make_table(title: str) -> Table:
    """Make a table that fits into 80 columns."""
    return Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))


def reset_s(stages: dict[str, float]) -> float:
    """Return how long the reset took: the sum of its stages, in seconds."""
    return sum(stages.get(stage, 0.0) for stage in RESET_STAGES)


def recovery_table(measured: Measurement) -> Table:
    """Return the runs, with their mean and spread."""
    what = f"{measured.host}, {measured.image}" if measured.image else measured.host
    table = make_table(f"Recovery, seconds ({what}, {measured.mode})")
    for column in ("run", "recovery", "start()", "gen.", "reset", *BOOT):
        table.add_column(column, justify="right", style="dim" if column in ("reset", *BOOT) else "")
    for run in measured.runs:
        table.add_row(
            str(run.number),
            f"{run.recovery_s:.1f}",
            "-" if run.start_s is None else f"{run.start_s:.1f}",
            str(run.generation or "-"),
            f"{reset_s(run.stages):.2f}" if run.stages else "-",
            *(f"{run.stages[stage]:.1f}" if stage in run.stages else "-" for stage in BOOT),
        )
    if measured.runs:
        found = measured.document()
        starts = [run.start_s for run in measured.runs if run.start_s is not None]
        table.add_section()
        table.add_row("mean", f"{found['mean_s']:.1f}", f"{mean(starts):.1f}" if starts else "-")
        table.add_row("spread", f"{found['max_s'] - found['min_s']:.1f}")
    return table


def paper_table() -> Table:
    """Return the paper's table 4."""
    table = make_table(f"The paper's table 4, seconds (other hardware: {MACHINE})")
    for column in ("", "run 1", "run 2", "run 3", "mean"):
        table.add_column(column, justify="right" if column else "left")
    for name, times in TABLE_4:
        table.add_row(name, *map(str, times), f"{mean(times):.1f}")
    return table


def to_csv(measured: Measurement) -> str:
    """Return one line per run: times in seconds, an empty field for what is not known."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    stages = (*RESET_STAGES, *STAGES)
    rows.writerow(["host", "mode", "run", "recovery_s", "start_s", "generation", *stages])
    for run in measured.runs:
        rows.writerow(
            [
                measured.host,
                measured.mode,
                run.number,
                f"{run.recovery_s:.3f}",
                "" if run.start_s is None else f"{run.start_s:.3f}",
                "" if run.generation is None else run.generation,
                *(f"{run.stages[s]:.3f}" if s in run.stages else "" for s in stages),
            ]
        )
    return text.getvalue()

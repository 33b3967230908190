"""The fault table: power devices that misbehave, and what the service makes of it, in real time.

    .venv/bin/python -m bench.power_faults [--quick] [--json] [ROW...]

Each row is a real protocol peer (OpenIPMI's simulator, sushy-tools' emulator over TLS, a smart
plug, a network card) and two hosts of the real service: one behind the peer that misbehaves, one
behind a healthy one. It takes about five minutes. The exit code is 0 if no row shows
a dirty boot, a wait beyond its deadline, or another host that waited 1 s longer than before.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from tests.power.faults import ROWS, Row, play
from tests.power.played import Pace
from tests.power.stage import Outcome

OTHER_LATE = 1.0
"""Seconds."""
LATE = 1.5
"""Seconds that an answer may come after its deadline."""
AT_ONCE = 5
"""Rows: on a busy machine programs start slowly, and that is not what is measured."""
PREFIX = "pc1 is quarantined: "


def measure(rows: list[Row], pace: Pace, at: Path) -> list[Outcome]:
    """Play the rows, some at the same time."""
    folders = [at / str(number) for number in range(len(rows))]
    for folder in folders:
        folder.mkdir()
    with pace.applied(), ThreadPoolExecutor(AT_ONCE) as pool:
        playing = [
            pool.submit(play, row, folder, pace) for row, folder in zip(rows, folders, strict=True)
        ]
        return [one.result() for one in playing]


def never(outcome: Outcome) -> list[str]:
    """Return what must not be."""
    found = list(outcome.faults)
    if outcome.late_s > LATE:
        found.append(f"answered {outcome.late_s:.1f} s after its deadline")
    if outcome.other_late_s > OTHER_LATE:
        found.append(f"another host waited {outcome.other_late_s:.1f} s longer")
    if outcome.healed_s is None:
        found.append("it did not come back by itself")
    return found


def show(rows: list[Row], outcomes: list[Outcome]) -> Table:
    """Return the table."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in ("fault", "peer", "asked", "answer after", "the service", "then", "other late"):
        table.add_column(column, overflow="fold")
    for row, outcome in zip(rows, outcomes, strict=True):
        said = "proved" if outcome.said == "done" else outcome.said.removeprefix(PREFIX)
        healed = "?" if outcome.healed_s is None else f"{outcome.healed_s:.0f} s"
        then = outcome.final if outcome.said == "done" else f"{outcome.final} after {healed}"
        table.add_row(
            row.name,
            row.peer,
            row.action,
            f"{outcome.seconds:.1f} s",
            said if said == "proved" else f"quarantined: {said.partition(' (fix')[0]}",
            then,
            f"{outcome.other_late_s:.1f} s",
        )
        for fault in never(outcome):
            table.add_row("", "", "", "", f"[red]{fault}[/]", "", "")
    return table


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="four times as quick")
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    parser.add_argument("row", nargs="*", help="only rows whose name has this in it")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    rows = [row for row in ROWS if not options.row or any(word in row.name for word in options.row)]
    with tempfile.TemporaryDirectory() as at:
        outcomes = measure(rows, Pace(0.25 if options.quick else 1.0), Path(at))
    if options.json:
        named = zip(rows, outcomes, strict=True)
        print(json.dumps([{"fault": row.name, **asdict(one)} for row, one in named], indent=2))
    else:
        Console(width=150).print(show(rows, outcomes))
    sys.exit(1 if any(never(outcome) for outcome in outcomes) else 0)


if __name__ == "__main__":
    main()

"""Recovery times beside the paper's table 4, as an SVG picture that needs nothing else."""

from __future__ import annotations

import math
from pathlib import Path
from statistics import mean
from typing import Any

import jinja2

from cuckoo_zfsiscsi.measure.paper import MACHINE, TABLE_4
from cuckoo_zfsiscsi.measure.recovery import Measurement

WIDTH = 760
LEFT, RIGHT = 210, 660
"""Pixels between which the bars lie."""
TOP, ROW = 58, 34
OURS, PAPERS = "#2563a8", "#b8c4d0"
TICKS = (0.1, 1, 10, 100, 1000, 10000)
"""Seconds."""


def draw(measured: Measurement) -> str:
    """Return the picture: a bar up to each mean, a dot for each run, on a logarithmic axis."""
    rows: list[tuple[str, list[float], bool]] = [
        (name, [float(time) for time in times], False) for name, times in TABLE_4
    ]
    if measured.runs:
        rows.append((f"{measured.host}, {measured.mode}", measured.times, True))
    every = [time for _, times, _ in rows for time in times]
    low = max(tick for tick in TICKS if tick == TICKS[0] or tick <= min(every) / 2)
    high = min((tick for tick in TICKS if tick >= max(every)), default=TICKS[-1])

    def place(seconds: float) -> float:
        inside = min(max(seconds, low), high)
        return round(LEFT + (RIGHT - LEFT) * math.log(inside / low) / math.log(high / low), 1)

    bars: list[dict[str, Any]] = []
    for number, (name, times, ours) in enumerate(rows):
        bars.append(
            {
                "name": name,
                "kind": "ours" if ours else "paper",
                "fill": OURS if ours else PAPERS,
                "y": TOP + number * ROW,
                "width": round(place(mean(times)) - LEFT, 1),
                "end": place(max(times)),
                "dots": [place(time) for time in times],
                "mean": f"{mean(times):.1f} s",
            }
        )
    bottom = TOP + len(rows) * ROW
    template = Path(__file__).with_suffix(".svg.j2").read_text()
    # The host's name is the user's: escaped
    return (
        jinja2.Environment(autoescape=True)
        .from_string(template)
        .render(
            title="Recovery time, RPC lost to RPC back",
            note=f"Seconds, logarithmic; mean and each run. Grey: the paper ({MACHINE})",
            width=WIDTH,
            height=bottom + 30,
            left=LEFT,
            top=TOP - 6,
            bottom=bottom,
            ticks=[(place(tick), f"{tick:g} s") for tick in TICKS if low <= tick <= high],
            bars=bars,
        )
        + "\n"
    )

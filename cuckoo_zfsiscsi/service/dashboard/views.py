"""What the templates show of a host: words and numbers, no markup."""

from __future__ import annotations

import time
from dataclasses import dataclass

from cuckoo_zfsiscsi.config import HostConfig
from cuckoo_zfsiscsi.service.report import RESET_STAGES, STAGES, BootReport, HostReport, State

SPARK_WIDTH, SPARK_HEIGHT = 72, 18
BAR_WIDTH = 1000
"""Units of the timeline's drawing."""

SIGNS = {
    State.UNKNOWN: "?",
    State.DIRTY: "◐",
    State.CLEAN: "○",
    State.BOOTING: "▲",
    State.READY: "●",
    State.RUNNING: "▶",
    State.STOPPING: "■",
    State.QUARANTINED: "✖",
    State.MAINTENANCE: "⚙",
}
"""Beside each state's colour, for those who see none."""


@dataclass(frozen=True, slots=True)
class Card:
    """One host among all."""

    label: str
    state: str
    sign: str
    since: float
    since_text: str
    image: str
    generation: int | None
    doing: str
    """What goes on right now, or what it waits for."""
    trouble: str
    """Why it is quarantined, or what went wrong behind the scenes."""
    run: str
    """The task of its run; "" without one."""
    progress: Progress | None
    spark: Spark | None


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a boot is."""

    reached: int
    stages: int
    began: float
    """Seconds since the epoch."""
    takes: float | None
    """Seconds that a boot of this host takes, as a rule."""


@dataclass(frozen=True, slots=True)
class Spark:
    """The last recovery times, as a line."""

    points: str
    last: float
    text: str


@dataclass(frozen=True, slots=True)
class Bar:
    """One stage of a boot's timeline."""

    name: str
    seconds: float
    """That it took."""
    at: float
    """When it was reached, since the reset began."""
    x: float
    width: float
    """Of BAR_WIDTH."""


def card(
    report: HostReport, config: HostConfig, recoveries: list[float], takes: float | None
) -> Card:
    """Return the view of one host.

    Args:
        report: of now.
        config: its section.
        recoveries: its last recovery times in seconds, the oldest first.
        takes: seconds that its boots take as a rule, if that is known.
    """
    boot = report.last_boot if report.state is State.BOOTING else None
    reached, wanted = _reached(boot, config) if boot else (0, [])
    doing = report.step
    if boot and reached < len(wanted):
        doing = f"waiting for {wanted[reached]}"
    return Card(
        label=report.label,
        state=report.state.value,
        sign=SIGNS[report.state],
        since=report.since,
        since_text=time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(report.since)),
        image=report.image or "",
        generation=report.generation,
        doing=doing,
        trouble=report.reason or report.warning,
        run=(report.task or "yes") if report.run else "",
        progress=Progress(reached, len(wanted), boot.started, takes) if boot else None,
        spark=spark(recoveries),
    )


def _reached(boot: BootReport, config: HostConfig) -> tuple[int, list[str]]:
    wanted = [*STAGES[:-2], *config.ready]
    reached = [number for number, stage in enumerate(wanted, 1) if stage in boot.stages]
    return max(reached, default=0), wanted


def spark(seconds: list[float]) -> Spark | None:
    """Return a line through some times, from zero up; None without any."""
    if not seconds:
        return None
    most = max(*seconds, 1.0)
    step = SPARK_WIDTH / max(1, len(seconds) - 1)
    points = [
        f"{number * step:.1f},{SPARK_HEIGHT - 1 - (SPARK_HEIGHT - 2) * value / most:.1f}"
        for number, value in enumerate(seconds)
    ]
    if len(points) == 1:  # a line needs two
        points.append(f"{SPARK_WIDTH},{points[0].partition(',')[2]}")
    spread = f"between {min(seconds):.1f} and {max(seconds):.1f} s"
    text = f"last recovery {seconds[-1]:.1f} s; the last {len(seconds)} {spread}"
    return Spark(" ".join(points), seconds[-1], text)


def timeline(boot: BootReport) -> list[Bar]:
    """Return the stages of a boot one after the other, from the reset's begin."""
    steps = [(name, boot.stages[name]) for name in RESET_STAGES if name in boot.stages]
    spans, end = [], 0.0
    for name, seconds in steps:
        spans.append((name, seconds, end + seconds))
        end += seconds
    power_on = end
    reached = {name: at for name, at in boot.stages.items() if name not in RESET_STAGES}
    for name, at in sorted(reached.items(), key=lambda one: one[1]):
        spans.append((name, power_on + at - end, power_on + at))
        end = power_on + at
    scale = BAR_WIDTH / max(end, 0.001)
    return [
        Bar(name, seconds, at, round((at - seconds) * scale, 1), max(2, round(seconds * scale, 1)))
        for name, seconds, at in spans
    ]

"""The picture of boots: a bar for each, a colour for each stage, as SVG."""

from __future__ import annotations

import time
from typing import Any
from xml.sax.saxutils import escape

REACHED = ("power", "dhcp", "tftp", "ipxe", "script", "login", "rpc", "agent")
"""Stages of a boot, in the order in which they come (service.report.STAGES)."""
NAMES = {"ipxe": "iPXE dhcp"}
COLOURS = {
    "power": "#9aa5b1", "dhcp": "#4e79a7", "tftp": "#76b7b2", "ipxe": "#3b5f85",
    "script": "#edc948", "login": "#f28e2b", "rpc": "#b07aa1", "agent": "#59a14f",
}  # fmt: skip
MISSING = "#d62728"
LEFT, WIDTH, ROW, TOP = 160, 720, 26, 64
"""Pixels: room for the date, for the time, for one boot, for title and legend."""
NICE = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600)
"""Seconds between two lines of the grid."""


def draw(host: str, boots: list[dict[str, Any]]) -> str:
    """Return the picture, an SVG document.

    Args:
        host: label, for the title.
        boots: reports as the service sends them; stages in seconds.
    """
    longest = max((max(_reached(boot).values(), default=0.0) for boot in boots), default=0.0)
    step = next((nice for nice in NICE if longest <= 10 * nice), NICE[-1])
    end = max(step, step * -(-longest // step))
    scale = WIDTH / end
    height = TOP + ROW * len(boots) + 30
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 110}" height="{height}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="100%" height="100%" fill="#fff"/><text x="10" y="22" font-size="15">'
        f"Boots of {escape(host)}, seconds</text>",
        *_legend(),
    ]
    bottom = TOP + ROW * len(boots)
    for number in range(int(end / step) + 1):
        x = LEFT + number * step * scale
        parts.append(f'<path d="M{x:.1f} {TOP - 4}V{bottom}" stroke="#ddd"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">'
                     f"{number * step}</text>")  # fmt: skip
    for row, boot in enumerate(boots):
        parts += _bar(boot, TOP + row * ROW, scale)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _reached(boot: dict[str, Any]) -> dict[str, float]:
    stages: dict[str, float] = boot["stages"]
    found = {stage: stages[stage] for stage in REACHED if stage in stages}
    return dict(sorted(found.items(), key=lambda item: item[1]))


def _legend() -> list[str]:
    parts = []
    for number, stage in enumerate(REACHED):
        x = LEFT + number * 86
        parts.append(f'<rect x="{x}" y="34" width="12" height="12" fill="{COLOURS[stage]}"/>')
        parts.append(f'<text x="{x + 16}" y="44">{NAMES.get(stage, stage)}</text>')
    return parts


def _bar(boot: dict[str, Any], y: int, scale: float) -> list[str]:
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(boot["started"]))
    parts = [f'<text x="10" y="{y + 14}">{when}</text>']
    begin = 0.0
    for stage, at in _reached(boot).items():
        width = max(1.0, (at - begin) * scale)
        parts.append(
            f'<rect x="{LEFT + begin * scale:.1f}" y="{y}" width="{width:.1f}" height="{ROW - 8}" '
            f'fill="{COLOURS[stage]}"><title>{NAMES.get(stage, stage)}: {at:.2f} s</title></rect>'
        )
        begin = at
    x = LEFT + begin * scale + 6
    if boot["ready"]:
        parts.append(f'<text x="{x:.1f}" y="{y + 14}">{begin:.1f} s</text>')
    else:
        missing = escape(boot["stalled"].partition(":")[0] or "not ready")
        parts.append(f'<text x="{x:.1f}" y="{y + 14}" fill="{MISSING}">{missing}</text>')
    return parts

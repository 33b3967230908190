"""How long a reset takes with ZFS and LIO: swap against in-place rollback, by what was written.

    python -m cuckoo_zfsiscsi.lab.appliance --cpus 2 -- python3 -m bench.reset_zfs [--rounds 5]
                                                                             [--json]

Runs on a storage server with an empty /dev/vdb: the appliance. Strategies alternate within one run;
compare them, do not read emulated milliseconds as hardware's.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys

from rich.console import Console
from rich.table import Table

from bench.zfs import rig, round_trip

CASES = ((0, True), (64, True), (64, False), (512, True), (512, False))
"""MiB dirty, and whether the pool was synced before the reset."""
MODES = ("rollback", "swap")
"""Each is a host: they take turns, as an emulated machine is twice as fast in one minute as in the
next."""
STEPS = ("fence", "change", "prove", "arm", "critical")

Rounds = dict[tuple[str, int, bool], list[dict[str, float]]]


def run(rounds: int, cases: tuple[tuple[int, bool], ...]) -> Rounds:
    """Return what every round measured, in seconds."""
    found: Rounds = {}
    with rig(list(MODES), {mode: mode for mode in MODES}, size=640) as one:
        for mode in MODES:
            round_trip(one, mode, 0, synced=True)  # the first one makes and warms everything
        for number in range(1, rounds + 1):
            print(f"round {number} of {rounds}", file=sys.stderr, flush=True)
            for dirty, synced in cases:
                for mode in MODES:
                    seconds = round_trip(one, mode, dirty, synced=synced)
                    found.setdefault((mode, dirty, synced), []).append(seconds)
                    steps = "  ".join(f"{step} {seconds[step] * 1000:.0f}" for step in STEPS)
                    print(f"{mode:8} {dirty:4} MiB: {steps} ms", file=sys.stderr, flush=True)
    return found


def ratios(found: Rounds) -> list[tuple[str, float, float]]:
    """Return what must hold: its name, the ratio measured, the most that it may be."""

    def median(mode: str, dirty: int, synced: bool) -> float:
        return statistics.median(r["critical"] for r in found[mode, dirty, synced])

    most = max(median("swap", dirty, synced) for dirty, synced in CASES)
    return [
        ("swap / rollback, 0 MiB", median("swap", 0, True) / median("rollback", 0, True), 0.5),
        (
            "swap / rollback, 64 MiB just written",
            median("swap", 64, False) / median("rollback", 64, False),
            0.1,
        ),
        ("swap, 0 to 512 MiB", most / median("swap", 0, True), 1.5),
    ]


def main() -> int:
    """Run it and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = run(options.rounds, CASES)
    held = ratios(found)
    if options.json:
        rows = [
            {"reset": mode, "dirty_mib": dirty, "synced": synced, "rounds": rounds}
            for (mode, dirty, synced), rounds in found.items()
        ]
        print(json.dumps({"rows": rows, "ratios": held}))
        return 0
    title = f"median (maximum) of {options.rounds} rounds, ms"
    table = Table("reset", "MiB dirty", *STEPS, title=title)
    for (mode, dirty, synced), rounds in sorted(found.items()):
        what = f"{dirty} {'synced' if synced else 'just written'}" if dirty else "0"
        cells = []
        for step in STEPS:
            times = [r[step] * 1000 for r in rounds]
            cells.append(f"{statistics.median(times):.0f} ({max(times):.0f})")
        table.add_row(mode, what, *cells)
    console = Console(width=120)
    console.print(table)
    for name, ratio, most in held:
        console.print(f"{name}: {ratio:.2f} (must be at most {most:g})")
    return 0 if all(ratio <= most for _, ratio, most in held) else 1


if __name__ == "__main__":
    raise SystemExit(main())

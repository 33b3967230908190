"""What the zfsiscsi command costs before it does anything: processor seconds, user and system.

    .venv/bin/python -m bench.startup [--runs 10] [--json]

The least of all runs says most: whatever else the machine does only adds to it. The bar: 0.3 s for
zfsiscsi --version.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from statistics import median

BAR = 0.3
"""Seconds."""
COMMANDS = ("--version", "--help", "hosts --help", "serve --help", "probe --help")


def cost(words: list[str]) -> float:
    """Run it once; return processor seconds.

    Raises:
        RuntimeError: it failed.
    """
    # A test's coverage measurement would be measured too.
    env = {name: value for name, value in os.environ.items() if "COVERAGE" not in name}
    quiet = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    argv = [sys.executable, "-m", "cuckoo_zfsiscsi", *words]
    _, status, used = os.wait4(os.posix_spawn(argv[0], argv, env, file_actions=quiet), 0)
    if status:
        raise RuntimeError(f"{' '.join(argv)}: status {os.waitstatus_to_exitcode(status)}")
    return used.ru_utime + used.ru_stime


def measure(runs: int) -> dict[str, list[float]]:
    """Measure each command so many times."""
    return {command: [cost(command.split()) for _ in range(runs)] for command in COMMANDS}


def main() -> int:
    """Print the table; 1 if the bar is not held."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    options = parser.parse_args()
    result = measure(options.runs)
    if options.json:
        print(json.dumps(result, indent=2))
    else:
        print(f"{'zfsiscsi':16} least s median s")
        for command, seconds in result.items():
            print(f"{command:16} {min(seconds):7.3f} {median(seconds):8.3f}")
    return int(min(result["--version"]) > BAR)


if __name__ == "__main__":
    raise SystemExit(main())

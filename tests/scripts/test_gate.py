"""What scripts/test --help says that the gate leaves out is what it does leave out."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.waiting import HANG

ROOT = Path(__file__).parents[2]
FILES = [
    "tests/lab", "tests/bench", "tests/power/test_faults.py", "tests/faults/test_kill.py",
    "tests/attacks/test_session.py",
]  # fmt: skip
LIST = """
import sys, pytest

class Lists:
    def pytest_collection_modifyitems(self, items):
        for item in items:
            print("item", item.nodeid, *(mark.name for mark in item.iter_markers()))

sys.exit(pytest.main(["--collect-only", "-qq", "-p", "no:xdist", *sys.argv[1:]], [Lists()]))
"""


def test_the_cells_of_a_matrix() -> None:
    argv = [sys.executable, "-c", LIST, *FILES]
    done = subprocess.run(
        argv, cwd=ROOT, capture_output=True, text=True, timeout=2 * HANG, check=True
    )
    items = [line.split() for line in done.stdout.splitlines() if line.startswith("item ")]
    said = subprocess.run(
        ["scripts/test", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    for row, cells in (
        ("boots:", [item for item in items if "lab" in item]),
        ("tests/power/test_faults.py:", [item for item in items if FILES[2] in item[1]]),
        ("tests/faults/test_kill.py:", [item for item in items if FILES[3] in item[1]]),
        ("tests/attacks/test_session.py:", [item for item in items if "harms" in item[1]]),
    ):
        found = re.search(rf"^  {re.escape(row)}.* (\d+) of (\d+) ", said, re.M)
        assert found, said
        few = [item for item in cells if "matrix" not in item]
        assert (len(few), len(cells)) == tuple(map(int, found.groups())), row


def test_all_goes_alone() -> None:
    argv = ["scripts/test", "--all", "tests/power"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "error: --all takes no arguments\nfix: scripts/test --help\n"

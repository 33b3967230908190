"""Every fault once, among tasks that have none."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.waiting import HANG


@pytest.mark.matrix
@pytest.mark.timeout(600)
def test_no_fault_makes_a_dirty_start_or_costs_a_host(tmp_path: Path) -> None:
    file = tmp_path / "json"
    argv = [sys.executable, "-m", "bench.faults", "--tasks", "30", "--json", str(file)]
    # How long CAPE stands still is for the bench itself, on a machine that has time
    argv += ["--freeze", str(HANG)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=580, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(file.read_text())
    assert result["tasks"] == 30
    assert sum(result["ended"].values()) == 30
    assert len({fault["fault"] for fault in result["faults"]}) == 6
    assert (result["dirty_starts"], result["disks_used_twice"], result["hosts_lost"]) == (0, 0, [])

"""Many hosts behind few, slow BMCs."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.waiting import HANG


@pytest.mark.matrix
def test_a_hundred_hosts_on_ten_slow_bmcs() -> None:
    # A process of its own: what it weighs is measured
    argv = [sys.executable, "-m", "bench.power_many", "--answer", "1", "--json"]
    done = subprocess.run(argv, stdout=subprocess.PIPE, timeout=2 * HANG, check=False)
    result = json.loads(done.stdout)
    assert result["hosts"] == 100
    assert result["really_on"] == 0
    assert result["ratio"] < 5, f"one after the other would be 10: {result}"
    assert result["resident_mb"] < 150, result
    assert done.returncode == 0

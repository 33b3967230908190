"""What the dashboard may cost: 300 hosts, ten changes of state a second, five viewers."""

from __future__ import annotations

import pytest

from bench.dashboard import measure
from tests.waiting import HANG


@pytest.mark.matrix
def test_five_viewers_of_300_hosts() -> None:
    result = measure(300, 10, 5, 5)
    assert result["changes_per_s"] > 0, result
    assert result["cpu_percent"] < 10, result
    assert result["resident_mb_of_viewers"] < 60, result
    # Simulated hardware included. The service without a host is 55 MB: its libraries.
    assert result["resident_mb"] < 120, result
    # How fast it is, is for the bench itself, on a machine that has time
    assert result["paint_best_s"] < HANG, result

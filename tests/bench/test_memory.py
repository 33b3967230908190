"""What the service may weigh."""

from __future__ import annotations

from pathlib import Path

from bench.memory import measure


def test_fifty_hosts_in_120_mb(tmp_path: Path) -> None:
    result = measure(50, tmp_path)
    assert result["hosts"] == 50
    assert result["peak_mib"] * 1.048576 < 120

"""Many hosts boot at once: everyone gets its own, once."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from bench.storm import Mode, measure
from tests.matrix import matrix


@pytest.mark.parametrize("mode", matrix(get_args(Mode), lambda mode: mode == "reboot"))
def test_a_small_storm(tmp_path: Path, mode: Mode) -> None:
    result = measure(tmp_path, hosts=15, unknown=3, running=3, mode=mode)
    boot = 15 if mode == "start" else 12
    assert (result.offered, result.scripts) == (boot, boot), result
    assert bool(result.told_to_wait) == (mode == "reboot"), result
    # How long it takes is for the whole one, on a machine that has time
    assert [fault for fault in result.faults if not fault.startswith("p99")] == [], result

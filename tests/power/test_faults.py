"""The fault table, four times as quick. bench/power_faults prints it in real time."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest

from tests.power.faults import ROWS, Row, play
from tests.power.stage import Pace
from tests.processes import watched

QUICK = Pace(0.25)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_fault(row: Row, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    secrets: list[str] = []
    with QUICK.applied(), watched(0.05) as lines:
        outcome = play(row, tmp_path, QUICK, secrets)
    for secret in secrets:
        assert secret not in caplog.text
        assert not [line for line in lines if secret.encode() in line]
    assert lines
    assert outcome.faults == []
    assert outcome.other_late_s <= 1.0, outcome
    if row.proved:
        assert outcome.said == "done", outcome
    else:
        assert re.search(row.says, outcome.said), outcome
        assert outcome.state == "quarantined", outcome
    assert outcome.healed_s is not None, outcome
    assert outcome.final == ("running" if row.proved and row.action == "on" else "clean")

"""The fault table over real peers, eight times as quick where something is waited out.

Here it counts what comes of a fault. How soon, and that no other host waits, is in test_twins.py
by a clock of its own, and printed by bench/power_faults in real time.
"""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from tests.matrix import matrix
from tests.power.faults import ROWS, Row, check, play
from tests.power.played import TIMEOUT, Pace
from tests.processes import watched

SCALE = 1 / 8
GATE = {"timeout", "refused session", "says and tells off, stays on", "HTTP 500"}


def pace_of(row: Row) -> Pace:
    """Return how quickly a row goes.

    A deadline that is to pass is short. One that is to be kept, by programs that a busy machine
    may be slow to start, is the real one.
    """
    return Pace(SCALE, TIMEOUT if row.proved or "pdu" in row.peer else None)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("row", matrix(ROWS, lambda row: row.name in GATE, lambda row: row.name))
def test_fault(row: Row, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    secrets: list[str] = []
    pace = pace_of(row)
    with pace.applied(), watched(0.05) as lines:
        outcome = play(row, tmp_path, pace, secrets)
    for secret in secrets:
        assert secret not in caplog.text
        assert not [line for line in lines if secret.encode() in line]
    assert lines
    check(row, outcome)

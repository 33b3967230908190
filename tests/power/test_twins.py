"""The fault table by a clock that the test holds: what is said after how long, to the point.

I8: a fault of one host's device delays another host by nothing at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.clocks import VirtualClock
from tests.power.faults import ROWS, Row, check
from tests.power.played import Pace
from tests.power.twins import TWINS, UNPLAYED, Devices

PLAYED = [row for row in ROWS if row.name in TWINS]


@contextmanager
def staged(clock: VirtualClock) -> Iterator[Devices]:
    stage = Devices(Pace(), clock)
    try:
        yield stage
    finally:
        stage.close()


def test_every_row_has_a_twin() -> None:
    assert {row.name for row in ROWS} == TWINS.keys() | UNPLAYED


@pytest.mark.parametrize("row", PLAYED, ids=[row.name for row in PLAYED])
def test_twin(row: Row, clock: VirtualClock) -> None:
    with staged(clock) as stage:
        TWINS[row.name].make(stage)
        outcome = stage.perform(row.action)
    assert outcome.seconds == pytest.approx(TWINS[row.name].seconds, abs=1e-6), outcome
    assert (outcome.late_s, outcome.other_late_s) == (0.0, 0.0)
    check(row, outcome)

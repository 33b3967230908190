from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clocks import VirtualClock
from tests.power.bmc import Bmc


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def bmc(tmp_path: Path) -> Iterator[Bmc]:
    one = Bmc(tmp_path / "bmc")
    one.start()
    yield one
    one.stop()


@pytest.fixture
def other_bmc(tmp_path: Path) -> Iterator[Bmc]:
    one = Bmc(tmp_path / "other-bmc")
    one.start()
    yield one
    one.stop()

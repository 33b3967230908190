"""Fixtures: a host that goes by the real clock, as whoever waits for it does."""

from __future__ import annotations

import pytest

from cuckoo_zfsiscsi.service.host import Host
from cuckoo_zfsiscsi.service.report import State
from tests.clocks import RealClock
from tests.service.conftest import Make
from tests.service.waiting import quiet


@pytest.fixture
def clock() -> RealClock:
    """Go by the real one: requests are waited for by an event loop, whose time is real."""
    return RealClock()


@pytest.fixture
def host(make: Make) -> Host:
    """Return one that is off and clean."""
    made = make()
    quiet(made, State.CLEAN)
    return made

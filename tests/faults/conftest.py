"""The small lab as a fixture, what it forks from, and time enough for each test here."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.forked import ForkServer
from tests.faults.patience import be_patient
from tests.faults.small_lab import SmallLab


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each of them time enough."""
    be_patient(items, Path(__file__).parent)


@pytest.fixture(scope="session")
def forks() -> Iterator[ForkServer]:
    with ForkServer() as made:
        yield made


@pytest.fixture
def lab(tmp_path: Path, forks: ForkServer) -> Iterator[SmallLab]:
    made = SmallLab(tmp_path, str(os.getpid()), forks)
    try:
        made.open()
        yield made
    finally:
        try:
            sys.stdout.write(made.seen())  # pytest shows it when the test has failed
        finally:
            made.close()

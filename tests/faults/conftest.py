"""The small lab as a fixture."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.small_lab import SmallLab


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[SmallLab]:
    made = SmallLab(tmp_path, str(os.getpid()))
    try:
        made.open()
        yield made
    finally:
        made.close()

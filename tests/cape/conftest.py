from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cape.service import TOKEN, Service, serve
from tests.clocks import VirtualClock


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def service() -> Iterator[Service]:
    with serve() as one:
        yield one


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(TOKEN + "\n")
    return path

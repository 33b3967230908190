from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cape.service import TOKEN, Service, serve
from tests.clocks import VirtualClock


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what needs a CAPE, unless somebody asks for just that: pytest -m cape."""
    if "cape" in config.option.markexpr:
        return
    real = [item for item in items if item.get_closest_marker("cape")]
    items[:] = [item for item in items if item not in real]
    if real:
        config.hook.pytest_deselected(items=real)


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

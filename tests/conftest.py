"""What all tests have in common."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

# How fast examples are made and tried says something of the machine, and nothing of the product.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture(autouse=True)
def _log() -> Iterator[None]:
    """Take away what a command has put into the log's way: its stderr ends with the test."""
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    yield
    root.setLevel(level)
    for handler in list(root.handlers):
        if type(handler) is logging.StreamHandler and handler not in before:
            root.removeHandler(handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what needs a CAPE, unless somebody asks for just that: pytest -m cape."""
    if "cape" in config.option.markexpr:
        return
    real = [item for item in items if item.get_closest_marker("cape")]
    items[:] = [item for item in items if item not in real]
    if real:
        config.hook.pytest_deselected(items=real)

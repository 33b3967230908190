from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.lab.network import Network
from tests.waiting import HANG

TIMEOUT = 5 * HANG
"""Seconds for a test that names no time of its own: its waits give up before, and say why."""
_numbers = itertools.count(1)


@pytest.fixture
def network_name() -> Callable[[], str]:
    """Names that no other test of this machine uses."""
    return lambda: f"zfsiscsi-test-lab-{os.getpid()}-{next(_numbers)}"


@pytest.fixture
def network(network_name: Callable[[], str]) -> Iterator[Network]:
    with Network(network_name(), hosts=1) as made:
        yield made


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(TIMEOUT))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep what is to be seen of a lab, a fixture, in which a test has just failed."""
    report = yield
    if report.failed and call.when == "call" and isinstance(item, pytest.Function):
        for made in item.funcargs.values():
            if keep := getattr(made, "keep_evidence", None):
                report.sections.append(("lab", keep(report.longreprtext)))
    return report

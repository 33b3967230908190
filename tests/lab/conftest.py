from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator

import pytest

from cuckoo_zfsiscsi.lab.network import Network

_numbers = itertools.count(1)


@pytest.fixture
def network_name() -> Callable[[], str]:
    """Names that no other test of this machine uses."""
    return lambda: f"zfsiscsi-test-lab-{os.getpid()}-{next(_numbers)}"


@pytest.fixture
def network(network_name: Callable[[], str]) -> Iterator[Network]:
    with Network(network_name(), hosts=1) as made:
        yield made

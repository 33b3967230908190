"""Hosts under one service, and malware on one of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.attacks.infection import Infection
from tests.faults.conftest import forks
from tests.faults.farm import Farm
from tests.faults.forked import ForkServer
from tests.faults.patience import SERVICE, be_patient

__all__ = ["forks"]  # a fixture


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each of them time enough."""
    be_patient(items, Path(__file__).parent)


@pytest.fixture
def infection(
    request: pytest.FixtureRequest, tmp_path: Path, forks: ForkServer
) -> Iterator[Infection]:
    """Two hosts behind the firewall: pc1 is in a run, and infected; pc2 is off and clean.

    A parameter says whose DHCP server it is; then pc1 is in no run.
    """
    farm = Farm(tmp_path, 2, forks, SERVICE)
    try:
        farm.open()
        dhcp = f"[netboot]\ndhcp = {getattr(request, 'param', 'dnsmasq')}"
        farm.conf.write_text(farm.conf.read_text().replace("[netboot]", dhcp))
        farm.guard()
        farm.start()
        farm.wait(lambda: set(farm.states().values()) == {"clean"}, "the first disks")
        made = Infection(farm)
        made.begin(in_run=not hasattr(request, "param"))
        yield made
    finally:
        for machine in farm.machines.values():
            machine.off()
        farm.close()

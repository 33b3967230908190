"""A host over hardware that fails on command."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from cuckoo_zfsiscsi.config import HostConfig, load
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.power import PowerState
from cuckoo_zfsiscsi.service import worker
from cuckoo_zfsiscsi.service.host import Host
from cuckoo_zfsiscsi.service.parts import Parts, Probe
from tests.config.sample import EXAMPLE
from tests.service.fakes import (
    FakeBoots,
    FakePower,
    FakeStore,
    FakeTarget,
    World,
    fake_probe,
)
from tests.service.waiting import SOON

Make = Callable[..., Host]


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def make(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Make a host with some keys of its section changed; it is off afterwards."""
    monkeypatch.setattr(worker, "RETRY_FIRST", 0.05)
    made: list[Host] = []

    def make_host(*, begin: bool = True, **keys: object) -> Host:
        config: HostConfig = load(EXAMPLE).hosts[0]
        keys = {"boot_timeout": SOON, "power_timeout": SOON, "prewarm": False, **keys}
        config = config.model_copy(update={"snapshot": "win10", **keys})
        probes: dict[str, Probe] = {name: fake_probe(world, name) for name in config.ready}
        parts = Parts(
            store=FakeStore(world),
            target=FakeTarget(world),
            power=FakePower(world),
            boots=FakeBoots(world),
            probes=probes,
        )
        host = Host(config, parts, lambda job: job())
        made.append(host)
        if begin:
            host.open()
        return host

    yield make_host
    world.stuck_on = False
    world.fail.clear()
    world.before.clear()
    for host in made:
        host.close()
        assert host.join(Deadline(SOON))
        assert world.power is PowerState.OFF

"""A host over hardware that fails on command, and the clock that both go by.

Time is virtual: it passes when everybody waits for it, so a host's own pauses and timeouts cost
nothing and are exact. Tests with a real peer have a fixture `clock` of their own, a RealClock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from cuckoo_zfsiscsi.config import HostConfig, load
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.power import PowerState
from cuckoo_zfsiscsi.power.witness import Nobody, Witness
from cuckoo_zfsiscsi.service.host import Host
from cuckoo_zfsiscsi.service.pace import Pace
from cuckoo_zfsiscsi.service.parts import Parts, Probe
from tests.clocks import AnyClock, VirtualClock
from tests.config.sample import EXAMPLE
from tests.service.fakes import (
    FakeBoots,
    FakePower,
    FakeStore,
    FakeTarget,
    World,
    fake_default_route,
    fake_delete_flows,
    fake_held,
    fake_probe,
)
from tests.waiting import HANG

Make = Callable[..., Host]


@pytest.fixture
def clock() -> Iterator[VirtualClock]:
    """Make one that no thread is left of in the end."""
    made = VirtualClock()
    yield made
    made.until(lambda: not made.others(), "every thread has ended", made.others)


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def make(world: World, clock: AnyClock) -> Iterator[Make]:
    """Make a host with some keys of its section changed; it is off afterwards."""
    made: list[Host] = []

    def make_host(*, begin: bool = True, witness: Witness | None = None, **keys: object) -> Host:
        config: HostConfig = load(EXAMPLE).hosts[0]
        keys = {"prewarm": False, "post_time": 0.0, **keys}
        config = config.model_copy(update={"snapshot": "win10", **keys})
        probes: dict[str, Probe] = {name: fake_probe(world, name) for name in config.ready}
        parts = Parts(
            store=FakeStore(world),
            target=FakeTarget(world),
            power=FakePower(world),
            boots=FakeBoots(world),
            probes=probes,
            default_route=fake_default_route(world, config),
            delete_flows=fake_delete_flows(world),
            is_held=fake_held(world),
            others=lambda: world.others,
            pace=Pace(clock=clock),
            witness=witness or Nobody(),
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
        assert host.join(Deadline(HANG, clock=clock)), host.report()
        assert world.power is PowerState.OFF

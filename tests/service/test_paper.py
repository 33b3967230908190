"""A host that is reset at each boot: who has given up asking is not who boots."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from ipaddress import IPv4Address

import pytest

from cuckoo_zfsiscsi.config import load
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.power import PowerState
from cuckoo_zfsiscsi.service.pace import Pace
from cuckoo_zfsiscsi.service.paper import PaperHost
from cuckoo_zfsiscsi.service.parts import Parts
from cuckoo_zfsiscsi.service.report import State
from tests.clocks import VirtualClock
from tests.config.sample import EXAMPLE
from tests.service.fakes import FakeBoots, FakePower, FakeStore, FakeTarget, World, fake_probe
from tests.service.waiting import quiet
from tests.waiting import HANG


@pytest.fixture
def world() -> World:
    return World(power=PowerState.OFF)


@pytest.fixture
def host(world: World, clock: VirtualClock) -> Iterator[PaperHost]:
    """Make a host that is clean; nobody has its address."""
    whole = load(EXAMPLE)
    keys = {"snapshot": "win10", "ip": IPv4Address("192.0.2.77")}
    config = whole.hosts[0].model_copy(update=keys)
    parts = Parts(
        store=FakeStore(world),
        target=FakeTarget(world),
        power=FakePower(world),
        boots=FakeBoots(world),
        probes={name: fake_probe(world, name) for name in config.ready},
        pace=Pace(clock=clock),
    )
    host = PaperHost(config, parts, lambda job: job(), whole)
    host.open()
    quiet(host, State.CLEAN)
    yield host
    world.before.clear()
    host.close()
    assert host.join(Deadline(HANG, clock=clock))


def boot(host: PaperHost, clock: VirtualClock) -> str:
    """Ask for a script: each time is another boot."""
    return clock.result(host.ask())


def secret(script: str) -> str:
    return str(re.findall(r"set password (\S+)", script)[0])


def test_given_up_while_the_disk_is_reset(
    host: PaperHost, world: World, clock: VirtualClock
) -> None:
    first = secret(boot(host, clock))
    gate = threading.Event()
    world.before["swap"] = lambda: gate.wait(HANG)
    asks = [host.ask()]
    clock.until(lambda: host.report().step == "resetting the disk", "the reset", host.report)
    asks += [host.ask() for _ in range(5)]
    assert all(ask.cancel() for ask in asks)
    gate.set()
    quiet(host, State.CLEAN)
    assert host.report().generation == 2, "a reset for each that asked"
    assert host.report().last_boot is None, "a boot that nobody has the script of"
    second = secret(clock.result(host.ask()))
    assert host.report().state is State.BOOTING
    assert first != second


def test_one_of_them_still_waits(host: PaperHost, world: World, clock: VirtualClock) -> None:
    boot(host, clock)
    gate = threading.Event()
    world.before["swap"] = lambda: gate.wait(HANG)
    given_up, waits, other = host.ask(), host.ask(), host.ask()
    assert given_up.cancel()
    gate.set()
    scripts = {clock.result(waits), clock.result(other)}
    assert len(scripts) == 1
    assert not waits.cancel(), "it has the script"
    assert host.report().generation == 2


def test_given_up_and_refused(host: PaperHost, world: World, clock: VirtualClock) -> None:
    """Of a guest that lives, whose request is judged for a long time."""
    boot(host, clock)
    world.switch_on()
    world.spontaneous = True
    given_up = host.ask()
    assert given_up.cancel()
    clock.until(lambda: not host._asks, "the judgement", host.report)
    assert host.report().state is not State.QUARANTINED
    assert host.report().generation == 1

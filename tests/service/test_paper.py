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
from cuckoo_zfsiscsi.service import paper, paper_boot
from cuckoo_zfsiscsi.service.paper import PaperHost
from cuckoo_zfsiscsi.service.parts import Parts
from cuckoo_zfsiscsi.service.report import State
from tests.config.sample import EXAMPLE
from tests.service.fakes import FakeBoots, FakePower, FakeStore, FakeTarget, World, fake_probe
from tests.service.waiting import SOON, until


@pytest.fixture
def world() -> World:
    return World(power=PowerState.OFF)


@pytest.fixture
def host(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[PaperHost]:
    """Make a host that is clean; nobody has its address."""
    monkeypatch.setattr(paper, "ECHO", 0.0)
    monkeypatch.setattr(paper_boot, "LOGIN", 0.05)
    whole = load(EXAMPLE)
    keys = {"snapshot": "win10", "ip": IPv4Address("192.0.2.77")}
    config = whole.hosts[0].model_copy(update=keys)
    parts = Parts(
        store=FakeStore(world),
        target=FakeTarget(world),
        power=FakePower(world),
        boots=FakeBoots(world),
        probes={name: fake_probe(world, name) for name in config.ready},
    )
    host = PaperHost(config, parts, lambda job: job(), whole)
    host.open()
    until(lambda: is_clean(host), "the first disk")
    yield host
    world.before.clear()
    host.close()
    assert host.join(Deadline(SOON))


def is_clean(host: PaperHost) -> bool:
    report = host.report()
    return report.state is State.CLEAN and not report.step


def secret(script: str) -> str:
    return str(re.findall(r"set password (\S+)", script)[0])


def test_given_up_while_the_disk_is_reset(host: PaperHost, world: World) -> None:
    first = secret(host.ask().result(SOON))
    gate = threading.Event()
    world.before["swap"] = lambda: gate.wait(SOON)
    asks = [host.ask()]
    until(lambda: host.report().step == "resetting the disk", "the reset")
    asks += [host.ask() for _ in range(5)]
    assert all(ask.cancel() for ask in asks)
    gate.set()
    until(lambda: is_clean(host), "the reset")
    assert host.report().generation == 2, "a reset for each that asked"
    assert host.report().last_boot is None, "a boot that nobody has the script of"
    second = secret(host.ask().result(SOON))
    assert host.report().state is State.BOOTING
    assert first != second


def test_one_of_them_still_waits(host: PaperHost, world: World) -> None:
    host.ask().result(SOON)
    gate = threading.Event()
    world.before["swap"] = lambda: gate.wait(SOON)
    given_up, waits, other = host.ask(), host.ask(), host.ask()
    assert given_up.cancel()
    gate.set()
    scripts = {waits.result(SOON), other.result(SOON)}
    assert len(scripts) == 1
    assert not waits.cancel(), "it has the script"
    assert host.report().generation == 2


def test_given_up_and_refused(host: PaperHost, world: World) -> None:
    """Of a guest that lives, whose request is judged for a long time."""
    host.ask().result(SOON)
    world.switch_on()
    world.spontaneous = True
    given_up = host.ask()
    assert given_up.cancel()
    until(lambda: not host._asks, "the judgement")
    assert host.report().state is not State.QUARANTINED
    assert host.report().generation == 1

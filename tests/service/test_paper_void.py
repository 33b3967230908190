"""reset_on = boot: someone else uses the disk of a boot; whoever has it, has it no longer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from cuckoo_zfsiscsi.errors import VoidBootError
from cuckoo_zfsiscsi.service.report import State
from tests.clocks import VirtualClock
from tests.service.fakes import World
from tests.service.paper_host import Machine
from tests.service.waiting import quiet


@pytest.fixture
def machine(world: World, clock: VirtualClock) -> Iterator[Machine]:
    one = Machine(world, clock)
    one.host.open()
    quiet(one.host, State.CLEAN)
    yield one
    world.before.clear()
    one.close()


def log_in_from(machine: Machine, world: World, address: str) -> None:
    """Have the session of the boot that begins come from elsewhere."""
    world.answers.discard("agent")
    machine.boot()
    assert world.session
    world.session = replace(world.session, address=address)


def test_a_login_from_elsewhere(machine: Machine, world: World, clock: VirtualClock) -> None:
    log_in_from(machine, world, "10.99.0.12")
    clock.until(lambda: world.journal.count("swap") == 2, "the reset", machine.host.report)
    quiet(machine.host, State.CLEAN)
    assert world.session is None, "fenced"
    (void,) = [one for one in machine.record.events if one.kind == "boot"]
    assert (void.ok, void.generation) == (False, 1)
    assert void.what == "void: someone logged in to its disk from 10.99.0.12"
    world.answers.add("agent")
    machine.boot()
    quiet(machine.host, State.READY)
    assert machine.host.report().generation == 2


def test_whoever_lives_on_gets_none(machine: Machine, world: World, clock: VirtualClock) -> None:
    """Its guest, without a disk: it is silent before the host counts as started anew."""
    log_in_from(machine, world, "10.99.0.12")
    world.spontaneous = True
    clock.until(lambda: world.journal.count("swap") == 2, "the reset", machine.host.report)
    quiet(machine.host, State.CLEAN)
    assert "it runs" in machine.ask()
    world.spontaneous = False
    assert machine.ask().startswith("#!ipxe")


def test_in_a_run(machine: Machine, world: World, clock: VirtualClock) -> None:
    world.answers.discard("agent")
    run = machine.host.start("7", None)
    clock.until(lambda: world.session is not None, "the login", machine.host.report)
    assert world.session
    world.session = replace(world.session, address="10.99.0.12")
    with pytest.raises(VoidBootError, match="logged in"):
        clock.result(run.booted)
    world.answers.add("agent")
    quiet(machine.host, State.CLEAN)

"""A host that is reset at each boot, over hardware that fails on command; and who boots it."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from cuckoo_zfsiscsi.config import load
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.target import Session
from cuckoo_zfsiscsi.errors import BootRefusedError, CancelledError
from cuckoo_zfsiscsi.power import PowerState
from cuckoo_zfsiscsi.service.events import Event
from cuckoo_zfsiscsi.service.pace import Pace
from cuckoo_zfsiscsi.service.paper import PaperHost
from cuckoo_zfsiscsi.service.paper_boot import Script
from cuckoo_zfsiscsi.service.parts import Parts, Probe
from cuckoo_zfsiscsi.service.report import BootReport, Run
from tests.clocks import VirtualClock
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

PATIENCE = 60.0
"""Seconds after which the firmware gives up a request, and asks again."""
TRIES = 50
"""Requests of one boot."""


@dataclass
class Record:
    """Implements Runs and Events."""

    events: list[Event] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)

    def note(self, event: Event) -> None:
        self.events.append(event)

    def begin(self, run: Run, report: BootReport) -> None:
        self.runs.append(f"{run.task} has generation {report.generation}")

    def end(self, host: str) -> None:
        self.runs.append(f"{host} is free")

    def tell(self, host: str, seen: Sequence[str]) -> None:
        self.runs.extend(f"{host}: {what}" for what in seen)

    def boots(self) -> list[tuple[int | None, bool]]:
        return [(one.generation, one.ok) for one in self.events if one.kind == "boot"]


class Machine:
    """The machine and its user.

    Args:
        world: its hardware.
        clock: of everyone.
        keys: of its section, changed.
    """

    def __init__(self, world: World, clock: VirtualClock, **keys: object) -> None:
        self.world = world
        self.clock = clock
        world.hot = True
        world.before["on"] = self._power_on
        self.record = Record()
        self.silent = False
        """It does not ask for its boot script when it is switched on."""
        self._boots = 0
        whole = load(EXAMPLE)
        keys = {"prewarm": False, "post_time": 0.0, **keys}
        self.config = whole.hosts[0].model_copy(
            update={"snapshot": "win10", "reset_on": "boot", **keys}
        )
        self.whole = whole
        self.host = self.make_host()

    def make_host(self) -> PaperHost:
        """Return what a new service makes of it."""
        world = self.world
        probes: dict[str, Probe] = {n: fake_probe(world, n) for n in self.config.ready}
        parts = Parts(
            store=FakeStore(world),
            target=FakeTarget(world),
            power=FakePower(world),
            boots=FakeBoots(world),
            probes=probes,
            default_route=fake_default_route(world, self.config),
            delete_flows=fake_delete_flows(world),
            is_held=fake_held(world),
            runs=self.record,
            events=self.record,
            pace=Pace(clock=self.clock),
        )
        return PaperHost(self.config, parts, lambda job: job(), self.whole)

    def close(self) -> None:
        """End the service of it, and whatever boots."""
        self._boots += 1
        self.host.close()
        assert self.host.join(Deadline(HANG, clock=self.clock)), self.host.report()

    def _power_on(self) -> None:
        if not self.silent:
            self.clock.thread(self.boot, "firmware").start()

    def boot(self) -> None:
        """Do what iPXE does, until there is a script, or another boot: ask, and log in."""
        self._boots += 1
        boot = self._boots
        for _ in range(TRIES):
            if boot != self._boots:
                return
            asked = self.host.ask()
            with contextlib.suppress(BootRefusedError, CancelledError):
                if self._has_answer(asked):
                    self.log_in(asked)
                    return

    def _has_answer(self, asked: Script) -> bool:
        """Wait for as long as the firmware does; a request that was given up is cancelled."""
        changed = self.clock.condition()

        def tell(_: Script) -> None:
            with changed:
                changed.notify_all()

        asked.add_done_callback(tell)
        with changed:
            changed.wait_for(asked.done, PATIENCE)
        return not asked.cancel()

    def log_in(self, asked: Script) -> str:
        """Await the script and use what it says; return it."""
        script = self.clock.result(asked)
        export = self.world.export
        assert export
        assert export.credentials.secret in script
        self.world.power = PowerState.ON
        self.world.session = Session(
            export.credentials.initiator, self.world.address, self.world.generation
        )
        return script

    def reset_button(self) -> None:
        """Go without a word."""
        self.world.session = None

    def ask(self, *, by_dhcp: bool = False) -> str:
        """Ask for the script; return it, or why there is none."""
        try:
            return self.clock.result(self.host.ask(by_dhcp=by_dhcp))
        except BootRefusedError as error:
            return error.what

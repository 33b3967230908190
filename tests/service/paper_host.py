"""A host that is reset at each boot, over hardware that fails on command; and who boots it."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

from cuckoo_zfsiscsi.config import load
from cuckoo_zfsiscsi.disk.target import Session
from cuckoo_zfsiscsi.errors import BootRefusedError
from cuckoo_zfsiscsi.power import PowerState
from cuckoo_zfsiscsi.service.events import Event
from cuckoo_zfsiscsi.service.paper import PaperHost
from cuckoo_zfsiscsi.service.paper_boot import Script
from cuckoo_zfsiscsi.service.parts import Parts, Probe
from cuckoo_zfsiscsi.service.report import BootReport, Run
from tests.config.sample import EXAMPLE
from tests.service.fakes import FakeBoots, FakePower, FakeStore, FakeTarget, World, fake_probe
from tests.service.waiting import SOON


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

    def boots(self) -> list[tuple[int | None, bool]]:
        return [(one.generation, one.ok) for one in self.events if one.kind == "boot"]


class Machine:
    """The machine and its user.

    Args:
        world: its hardware.
        keys: of its section, changed.
    """

    def __init__(self, world: World, **keys: object) -> None:
        self.world = world
        world.hot = True
        world.before["on"] = self._power_on
        self.record = Record()
        self.silent = False
        """It does not ask for its boot script when it is switched on."""
        whole = load(EXAMPLE)
        keys = {"boot_timeout": SOON, "power_timeout": SOON, "prewarm": False, **keys}
        self.config = whole.hosts[0].model_copy(
            update={"snapshot": "win10", "reset_on": "boot", **keys}
        )
        self.whole = whole
        self._boots: list[threading.Thread] = []
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
            runs=self.record,
            events=self.record,
        )
        return PaperHost(self.config, parts, lambda job: job(), self.whole)

    def is_held(self, *_: Any, **__: Any) -> bool:
        """Play readiness.session: a kernel that lives answers on its session."""
        return self.world.is_up

    def _power_on(self) -> None:
        if not self.silent:
            self._boots.append(threading.Thread(target=self.boot, daemon=True))
            self._boots[-1].start()

    def boot(self) -> None:
        """Do what iPXE does, until there is a script: ask, and log in."""
        for _ in range(50):
            try:
                self.log_in(self.host.ask())
            except BootRefusedError:
                continue
            return

    def log_in(self, asked: Script) -> str:
        """Await the script and use what it says; return it."""
        script = asked.result(SOON)
        export = self.world.export
        assert export
        assert export.credentials.secret in script
        self.world.power = PowerState.ON
        self.world.session = Session(
            export.credentials.initiator, "10.99.0.11", self.world.generation
        )
        return script

    def reset_button(self) -> None:
        """Go without a word."""
        self.world.session = None

    def ask(self) -> str:
        """Ask for the script; return it, or why there is none."""
        try:
            return self.host.ask().result(SOON)
        except BootRefusedError as error:
            return error.what

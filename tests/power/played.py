"""A host of the real service with real power over a real protocol; the rest of it is played.

Its machine is a World (tests/service/fakes.py): it boots when it is switched on and armed, and its
disk may be swapped, and its boot script given out, only while it is really off: that is asserted
there.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.config import HostConfig, load
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.power import Driver, PowerState, breaker, manners
from cuckoo_zfsiscsi.power.limit import limiter_for
from cuckoo_zfsiscsi.power.proved import SILENCE, ProvedPower
from cuckoo_zfsiscsi.power.ways import Ways
from cuckoo_zfsiscsi.power.witness import LOOK, Life
from cuckoo_zfsiscsi.service import pace, worker
from cuckoo_zfsiscsi.service.host import Host
from cuckoo_zfsiscsi.service.parts import Parts
from cuckoo_zfsiscsi.service.report import State
from tests.clocks import AnyClock
from tests.config.sample import EXAMPLE
from tests.service.fakes import FakeBoots, FakeStore, FakeTarget, World, fake_held, fake_probe
from tests.waiting import HANG

BOOT = 5.0
"""Seconds of boot_timeout beyond power_timeout."""
TIMEOUT = 60.0


@dataclass
class Pace:
    """How quickly time goes: 1 is real time."""

    scale: float = 1.0
    given: float | None = None
    """Power timeout, seconds, if it is not to go as quickly."""

    @property
    def timeout(self) -> float:
        """Power timeout, seconds."""
        return TIMEOUT * self.scale if self.given is None else self.given

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Make the service's own pauses as short."""
        with pytest.MonkeyPatch.context() as patch:
            for module, name in ((manners, "BACK_OFF"), (breaker, "PAUSES")):
                patch.setattr(module, name, [s * self.scale for s in getattr(module, name)])
            patch.setattr(worker, "RETRY_FIRST", worker.RETRY_FIRST * self.scale)
            yield


class WorldWitness:
    """Sees whether a machine really has power, as its ARP would show it."""

    def __init__(self, world: World) -> None:
        self._world = world

    def look(self, *, seconds: float = LOOK, deadline: Deadline) -> Life:
        deadline.check("a look")
        return Life({"arp": "it answers ARP"} if self._world.power is PowerState.ON else {})

    def boot(self, since: float) -> str:
        return "dhcp request" if self._world.power is PowerState.ON else ""

    def listening(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()


class Played:
    """One host: its machine, its power, the service's worker."""

    def __init__(self, label: str, pace: Pace, clock: AnyClock) -> None:
        self.world = World(power=PowerState.OFF)
        self.booted: list[int] = []
        """Generations, in the order of the boots."""
        self.label, self.pace, self.clock = label, pace, clock
        self.host: Host

    def switch(self, on: bool) -> None:
        """Be the machine: what its power device does to it."""
        with self.world.lock:
            was = self.world.power
            if on and was is PowerState.OFF:
                self.world.switch_on()
                if self.world.session:
                    self.booted.append(self.world.generation)
            elif not on:
                self.world.switch_off()

    def connect(self, on: list[Driver], off: list[Driver], interval: float) -> None:
        """Give it its power and open it."""
        config: HostConfig = (
            load(EXAMPLE)
            .hosts[0]
            .model_copy(
                update={
                    "label": self.label,
                    "snapshot": "win10",
                    "post_time": 0.0,
                    "boot_timeout": self.pace.timeout + BOOT,
                    "power_timeout": self.pace.timeout,
                }
            )
        )
        witness = WorldWitness(self.world)

        def prove(drivers: list[Driver]) -> list[ProvedPower]:
            return [
                ProvedPower(
                    driver,
                    limiter_for(driver.peer),
                    interval=interval,
                    witness=witness,
                    silence=SILENCE * self.pace.scale,
                    repeat_after=driver.can.again * self.pace.scale,
                    hurried=driver is not drivers[-1],
                )
                for driver in drivers
            ]

        parts = Parts(
            store=FakeStore(self.world),
            target=FakeTarget(self.world),
            power=Ways(self.label, prove(on), prove(off), witness),
            boots=FakeBoots(self.world),
            probes={name: fake_probe(self.world, name) for name in config.ready},
            is_held=fake_held(self.world),
            pace=pace.Pace(clock=self.clock),
        )
        self.host = Host(config, parts, lambda job: job())
        self.host.open()

    def wait(self, state: State, seconds: float) -> bool:
        """Wait until it is in this state, and nothing is being done; False if that never is."""
        end = self.clock.monotonic() + seconds
        while (now := self.host.report()).state is not state or now.step:
            if self.clock.monotonic() > end:
                return False
            self.clock.sleep(0.02)
        return True

    def run(self) -> None:
        """Bring it to where an analysis would run."""
        self.clock.result(self.host.start(None, None).booted)

    def close(self) -> None:
        """End the worker, whatever its power device does."""
        self.host.close()
        self.host.join(Deadline(self.pace.timeout + HANG, clock=self.clock))


def follow(path: Path, switch: Callable[[bool], None], end: threading.Event) -> None:
    """Be the wire from a BMC simulator, whose machine is a file, to a machine that is played."""
    before = path.read_text().strip()
    while not end.wait(0.02):
        now = path.read_text().strip()
        if now and now != before:
            before = now
            switch(now == "1")

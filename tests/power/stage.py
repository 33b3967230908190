"""Two hosts of the real service with real power over real protocols; the rest of a host is played.

pc1 stands behind the device that misbehaves, pc2 behind a healthy one. Each machine is a World
(tests/service/fakes.py): it boots when it is switched on and armed, and its disk may be swapped,
and its boot script given out, only while it is really off: that is asserted there.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.config import HostConfig, load
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import ZfsIscsiError
from cuckoo_zfsiscsi.power import Driver, PowerState, breaker, manners
from cuckoo_zfsiscsi.power.limit import limiter_for
from cuckoo_zfsiscsi.power.proved import ProvedPower
from cuckoo_zfsiscsi.power.ways import Ways
from cuckoo_zfsiscsi.service import worker
from cuckoo_zfsiscsi.service.host import Host
from cuckoo_zfsiscsi.service.parts import Parts
from cuckoo_zfsiscsi.service.report import State
from tests.config.sample import EXAMPLE
from tests.service.fakes import FakeBoots, FakeStore, FakeTarget, World, fake_probe

BEFORE = 5
"""How often the other host is asked before the fault begins."""
BOOT = 5.0
"""Seconds of boot_timeout beyond power_timeout."""
SLACK = 1.5
"""Seconds that an answer may come after its deadline, on a busy machine."""


@dataclass
class Pace:
    """How quickly time goes: 1 is real time."""

    scale: float = 1.0

    @property
    def timeout(self) -> float:
        """Power timeout, seconds."""
        return 60.0 * self.scale

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Make the service's own pauses as short."""
        with pytest.MonkeyPatch.context() as patch:
            for module, name in ((manners, "BACK_OFF"), (breaker, "PAUSES")):
                patch.setattr(module, name, [s * self.scale for s in getattr(module, name)])
            patch.setattr(worker, "RETRY_FIRST", worker.RETRY_FIRST * self.scale)
            yield


@dataclass
class Outcome:
    """What became of a fault."""

    said: str
    """Of the service, when it was asked."""
    seconds: float
    """That the answer took."""
    state: str
    """Of the host, after the answer."""
    final: str = ""
    """Of the host, when the fault is over."""
    healed_s: float | None = None
    """Seconds from the fault's end until the host was proved clean by itself."""
    requests: int = 0
    """Commands that the device got for it."""
    other_late_s: float = 0.0
    """How much longer than before the other host waited for its own power, at worst."""
    faults: list[str] = field(default_factory=list)
    """What must never be: a dirty boot, a wait beyond the deadline, a secret that is told."""


class WorldWitness:
    """Sees whether a machine really has power, as its ARP would show it."""

    def __init__(self, world: World) -> None:
        self._world = world

    def life(self, since: float, *, deadline: Deadline) -> str:
        deadline.check("a look")
        return "it answers ARP" if self._world.power is PowerState.ON else ""

    def boot(self, since: float) -> str:
        return "dhcp request" if self._world.power is PowerState.ON else ""


class Played:
    """One host: its machine, its power, the service's worker."""

    def __init__(self, label: str, pace: Pace) -> None:
        self.world = World(power=PowerState.OFF)
        self.booted: list[int] = []
        """Generations, in the order of the boots."""
        self._pace = pace
        self.label = label
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
                    "boot_timeout": self._pace.timeout + BOOT,
                    "power_timeout": self._pace.timeout,
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
                    silence=10 * self._pace.scale,
                    repeat_after=driver.can.again * self._pace.scale,
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
        )
        self.host = Host(config, parts, lambda job: job())
        self.host.open()

    def wait(self, *states: State, seconds: float) -> bool:
        """Wait until it is in one of these states, and nothing is being done."""
        end = time.monotonic() + seconds
        while (now := self.host.report()).state not in states or now.step:
            if time.monotonic() > end:
                return False
            time.sleep(0.02)
        return True

    def run(self, seconds: float) -> None:
        """Bring it to where an analysis would run."""
        self.host.start(None, None).booted.result(seconds)

    def close(self) -> None:
        """End the worker, whatever its power device does."""
        self.host.close()
        self.host.join(Deadline(self._pace.timeout + SLACK))


class Other:
    """Watches how long the healthy host waits for its power, before the fault and during it."""

    def __init__(self, played: Played) -> None:
        self._played = played
        # The slowest of some: programs start slowly on a busy machine, fault or not.
        self._usual = max(self._once() for _ in range(BEFORE))
        self._worst = 0.0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def start(self) -> None:
        """Watch from now on."""
        self._thread.start()

    def late(self) -> float:
        """Stop; return the seconds by which the slowest was slower than the slowest before."""
        self._end.set()
        self._thread.join()
        return max(0.0, self._worst - self._usual)

    def _watch(self) -> None:
        while not self._end.is_set():
            self._worst = max(self._worst, self._once())
            self._end.wait(0.2)

    def _once(self) -> float:
        begin = time.monotonic()
        self._played.host.power(Deadline(60))
        return time.monotonic() - begin


def act(one: Played, watch: Other, action: str, pace: Pace) -> Outcome:
    """Ask the service for the action while the fault is on; tell what came of it."""
    begin, swaps = time.monotonic(), one.world.journal.count("swap")
    said = "done"
    try:
        if action == "off":
            one.host.stop().result(2 * pace.timeout + 30)
        else:
            one.host.start(None, None).booted.result(2 * pace.timeout + 30)
    except ZfsIscsiError as error:
        said = error.what
    seconds = time.monotonic() - begin
    outcome = Outcome(said, seconds, one.host.report().state.value)
    outcome.other_late_s = watch.late()
    limit = pace.timeout + (BOOT if action == "on" else 0.0)
    if seconds > limit + SLACK:
        outcome.faults.append(f"answered {seconds - limit:.1f} s after its deadline")
    if said != "done" and one.world.journal.count("swap") != swaps and action == "off":
        outcome.faults.append("a disk was swapped though power was not proved off")
    return outcome


def judge(one: Played, outcome: Outcome, secrets: list[str]) -> None:
    """Add what must never be seen of a machine's disk and boots, nor of a password."""
    told = outcome.said + repr(one.host.report())  # what the API answers is made of it
    if any(secret in told for secret in secrets):
        outcome.faults.append("a secret was told")
    if one.booted != sorted(set(one.booted)):
        outcome.faults.append(f"a disk was booted twice: generations {one.booted}")
    if "AssertionError" in one.host.report().reason + outcome.said:
        outcome.faults.append(one.host.report().reason)


def follow(path: Path, switch: Callable[[bool], None], end: threading.Event) -> None:
    """Be the wire from a BMC simulator, whose machine is a file, to a machine that is played."""
    before = path.read_text().strip()
    while not end.wait(0.02):
        now = path.read_text().strip()
        if now and now != before:
            before = now
            switch(now == "1")

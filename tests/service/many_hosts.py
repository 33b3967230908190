"""A fleet of many real hosts over simulated hardware, which run analyses one after the other."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from ipaddress import IPv4Address
from pathlib import Path

from cuckoo_zfsiscsi.config import Config, load
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import UnknownHostError, ZfsIscsiError
from cuckoo_zfsiscsi.readiness import Answer
from cuckoo_zfsiscsi.service.events import Everyone
from cuckoo_zfsiscsi.service.history import History
from cuckoo_zfsiscsi.service.host import Host
from cuckoo_zfsiscsi.service.isolation import IsolationLook
from cuckoo_zfsiscsi.service.metrics import Metrics
from cuckoo_zfsiscsi.service.pace import Pace
from cuckoo_zfsiscsi.service.parts import Parts, Probe
from cuckoo_zfsiscsi.service.recent import Recent
from cuckoo_zfsiscsi.service.recorded import RecordedPower
from cuckoo_zfsiscsi.service.report import State
from cuckoo_zfsiscsi.service.storage import StorageLook
from tests.clocks import AnyClock, RealClock
from tests.config.sample import EXAMPLE
from tests.service.fakes import FakeBoots, FakePower, FakeStore, FakeTarget, World
from tests.waiting import HANG

CYCLE = 6
"""Changes of state in one run: booting, ready, running, stopping, dirty, clean."""
BOOT = {"rpc": 1.5, "agent": 2.5}
"""Seconds after power-on at which a simulated guest's services answer."""
RUN = 3.0
"""Seconds from a run's begin to its stop."""


class CountedHost(Host):
    """A host whose changes of state are counted."""

    changes = 0

    def _set(self, state: State) -> None:
        if state is not self._state:
            CountedHost.changes += 1
        super()._set(state)


class ManyHosts:
    """What API and dashboard need of a fleet.

    Args:
        count: of hosts.
        folder: for the history.
        boot: as BOOT.
        clock: of all of them.
    """

    def __init__(
        self,
        count: int,
        folder: Path,
        boot: dict[str, float] | None = None,
        clock: AnyClock | None = None,
    ) -> None:
        self.clock: AnyClock = clock or RealClock()
        self._pace = Pace(clock=self.clock)
        self.config: Config = load(EXAMPLE)
        self._boot = boot or BOOT
        template = self.config.hosts[0]
        labels = [f"pc{number:03}" for number in range(1, count + 1)]
        self.history = History(folder / "runs.sqlite")
        self.recent = Recent(labels)
        self.worlds = {label: World() for label in labels}
        for world in self.worlds.values():
            world.before["off"] = lambda: self.clock.sleep(0.2)
        self.store = FakeStore(self.worlds[labels[0]])
        self.storage = StorageLook(self.config.storage, self.store, labels, self.clock)
        self.isolation = IsolationLook(self.config, self.history)
        self.metrics = Metrics(
            lambda: [host.report() for host in self.hosts()],
            self.storage.report,
            self.isolation.report,
        )
        self.events = Everyone([self.history, self.recent, self.metrics])
        self._hosts: dict[str, Host] = {}
        for number, label in enumerate(labels):
            update = {"label": label, "snapshot": "win10", "prewarm": False}
            update |= {"ip": IPv4Address("10.99.1.0") + number}
            config = template.model_copy(update=update)
            self._hosts[label] = CountedHost(config, self._parts(label), lambda job: job())
        self._ending = threading.Event()
        self._threads: list[threading.Thread] = []

    def _parts(self, label: str) -> Parts:
        world = self.worlds[label]
        return Parts(
            store=FakeStore(world),
            target=FakeTarget(world),
            power=RecordedPower(label, FakePower(world), self.events),
            boots=FakeBoots(world),
            probes={name: self._probe(label, name) for name in ("rpc", "agent")},
            runs=self.history,
            events=self.events,
            pace=self._pace,
        )

    def _probe(self, label: str, name: str) -> Probe:
        world = self.worlds[label]

        def probe(deadline: Deadline) -> Answer:
            deadline.check(name)
            boot = self._hosts[label]._steps.boot
            if boot and "dhcp" not in boot.report.stages:
                for stage in ("dhcp", "script"):
                    self._hosts[label].note(stage, self.clock.monotonic())
            is_time = boot is not None and boot.age >= self._boot[name]
            up = world.is_up and is_time and name in world.answers
            return Answer(up, "answers" if up else "silent", 0.0, up)

        return probe

    def open(self) -> None:
        """Begin; wait until all are clean."""
        for host in self._hosts.values():
            host.open()
        self.until_clean()
        for world in self.worlds.values():
            world.journal.clear()

    def until_clean(self) -> None:
        def states() -> list[State]:
            return [host.report().state for host in self.hosts()]

        self.clock.until(lambda: set(states()) == {State.CLEAN}, "all clean", states)

    def work(self, changes_per_second: float) -> None:
        """Run analyses in the background, so many that states change so often, until close()."""
        thread = threading.Thread(target=self._work, args=(CYCLE / changes_per_second,))
        thread.start()
        self._threads.append(thread)

    def _work(self, pause: float) -> None:
        ends: list[tuple[float, Host]] = []
        number, due = 0, time.monotonic()
        while not self._ending.wait(max(0.0, due - time.monotonic())):
            due += pause
            host = self.hosts()[number % len(self._hosts)]
            number += 1
            with contextlib.suppress(ZfsIscsiError):
                host.start(f"{number}", None)
                ends.append((time.monotonic() + self._boot["agent"] + RUN, host))
            while ends and ends[0][0] < time.monotonic():
                _, done = ends.pop(0)
                done.stop()
                self.worlds[done.config.label].journal.clear()

    def hosts(self) -> list[Host]:
        return list(self._hosts.values())

    def host(self, label: str) -> Host:
        try:
            return self._hosts[label]
        except KeyError:
            raise UnknownHostError(f"no host {label!r} here", fix="zfsiscsi hosts") from None

    def each(self, act: Callable[[Host], object]) -> None:
        for host in self.hosts():
            act(host)

    def close(self) -> None:
        """End."""
        self._ending.set()
        for thread in self._threads:
            thread.join()
        self.each(Host.close)
        deadline = Deadline(HANG, clock=self.clock)
        self.each(lambda host: host.join(deadline))
        self.history.close()

"""What comes of a power device that misbehaves: two hosts of the service, and a watch on both.

pc1 stands behind the device that misbehaves, pc2 behind a healthy one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import ZfsIscsiError
from cuckoo_zfsiscsi.service.report import State
from tests.clocks import AnyClock
from tests.power.played import BOOT, Pace, Played
from tests.waiting import HANG

BEFORE = 5
"""How often the other host is asked before the fault begins."""
LOOK = 0.25
"""Seconds between two questions to the other host: more than its device is left in peace for."""


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
    late_s: float = 0.0
    """How long after its deadline the answer came."""
    other_late_s: float = 0.0
    """How much longer than before the other host waited for its own power, at worst."""
    faults: list[str] = field(default_factory=list)
    """What must never be: a dirty boot, a secret that is told."""


class Stage:
    """The two hosts, and how the fault begins and ends.

    Args:
        pace: how quickly time goes.
        clock: that all of it goes by.
    """

    def __init__(self, pace: Pace, clock: AnyClock) -> None:
        self.pace, self.clock = pace, clock
        self.one, self.other = Played("pc1", pace, clock), Played("pc2", pace, clock)
        self.begin: Callable[[], object] = lambda: None
        self.end: Callable[[], object] = lambda: None
        self.count: Callable[[], int] = lambda: 0
        """Of the commands that the first host's device got."""
        self.secrets: list[str] = []

    def perform(self, action: str) -> Outcome:
        """Ask the service for "on" or "off" during the fault; see to it that it heals after it."""
        patience = 5 * self.pace.timeout + HANG
        for host in (self.one, self.other):
            assert host.wait(State.CLEAN, patience), f"never clean: {host.host.report()}"
        if action == "off":
            self.one.run()
        watch = Watch(self.other)
        before = self.count()
        self.begin()
        watch.start()
        try:
            outcome = self._act(action)
        finally:
            late = watch.late()
        outcome.other_late_s = late
        outcome.requests = self.count() - before
        self.end()
        healed = self.clock.monotonic()
        up = State.RUNNING if action == "on" and outcome.said == "done" else State.CLEAN
        if self.one.wait(up, patience):
            outcome.healed_s = self.clock.monotonic() - healed
        outcome.final = self.one.host.report().state.value
        self._judge(outcome)
        return outcome

    def close(self) -> None:
        """End the two hosts."""
        for host in (self.one, self.other):
            host.close()

    def _act(self, action: str) -> Outcome:
        one, begin, said = self.one, self.clock.monotonic(), "done"
        swaps = one.world.journal.count("swap")
        try:
            if action == "off":
                self.clock.result(one.host.stop())
            else:
                self.clock.result(one.host.start(None, None).booted)
        except ZfsIscsiError as error:
            said = error.what
        outcome = Outcome(said, self.clock.monotonic() - begin, one.host.report().state.value)
        limit = self.pace.timeout + (BOOT if action == "on" else 0.0)
        outcome.late_s = max(0.0, outcome.seconds - limit)
        if said != "done" and one.world.journal.count("swap") != swaps and action == "off":
            outcome.faults.append("a disk was swapped though power was not proved off")
        return outcome

    def _judge(self, outcome: Outcome) -> None:
        """Add what must never be seen of a machine's disk and boots, nor of a password."""
        one = self.one
        told = outcome.said + repr(one.host.report())  # what the API answers is made of it
        if any(secret in told for secret in self.secrets):
            outcome.faults.append("a secret was told")
        if one.booted != sorted(set(one.booted)):
            outcome.faults.append(f"a disk was booted twice: generations {one.booted}")
        if "AssertionError" in one.host.report().reason + outcome.said:
            outcome.faults.append(one.host.report().reason)


class Watch:
    """Watches how long a healthy host waits for its power, before the fault and during it."""

    def __init__(self, played: Played) -> None:
        self._played, self._clock = played, played.clock
        # The slowest of some: programs start slowly on a busy machine, fault or not.
        self._usual = max(self._once() for _ in range(BEFORE))
        self._worst = 0.0
        self._ended = False
        self._thread = self._clock.thread(self._watch, "watch")

    def start(self) -> None:
        """Watch from now on."""
        self._thread.start()

    def late(self) -> float:
        """Stop; return the seconds by which the slowest was slower than the slowest before."""
        self._ended = True
        self._thread.join()
        return max(0.0, self._worst - self._usual)

    def _watch(self) -> None:
        while not self._ended:
            self._worst = max(self._worst, self._once())

    def _once(self) -> float:
        self._clock.sleep(LOOK)
        begin = self._clock.monotonic()
        self._played.host.power(Deadline(HANG, clock=self._clock))
        return self._clock.monotonic() - begin

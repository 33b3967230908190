"""A driver and a witness that do as they are told; they wait by their deadline's clock."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import PowerError
from cuckoo_zfsiscsi.power import Can, PowerState
from cuckoo_zfsiscsi.power.limit import Limiter
from cuckoo_zfsiscsi.power.proved import SILENCE, ProvedPower
from cuckoo_zfsiscsi.power.witness import LOOK, Life, Witness
from tests.clocks import VirtualClock

_numbers = itertools.count(1)


class Outlet:
    """What a driver switches: knows what it was asked for, and fails on command."""

    def __init__(self, can: Can | None = None) -> None:
        self.peer = f"fake://{next(_numbers)}"
        self.can = can or Can()
        self.state = PowerState.OFF
        self.asked: list[str] = []
        self.asked_at: list[float] = []
        self.error: PowerError | None = None
        self.stuck = False
        """It takes requests, and nothing comes of them."""
        self.tells: PowerState | None = None
        """The state that it tells, whatever is so."""
        self.fault: Callable[[Deadline], None] = lambda deadline: None
        """What happens before an answer."""
        self.effect: Callable[[PowerState], None] = lambda state: None

    def request(self, state: PowerState, *, deadline: Deadline) -> None:
        self._ask(state.value, deadline)
        if not self.stuck:
            self.state = state
            self.effect(state)

    def query(self, *, deadline: Deadline) -> PowerState:
        self._ask("status", deadline)
        return self.tells or self.state

    def _ask(self, what: str, deadline: Deadline) -> None:
        deadline.check(what)
        self.asked.append(what)
        self.asked_at.append(deadline.clock.monotonic())
        self.fault(deadline)
        if self.error:
            raise self.error


class Eyes:
    """A witness who sees what the test says."""

    def __init__(self) -> None:
        self.sign = ""
        self.booted = ""
        self.looks = 0
        self.heard = self.agent = ""
        self.asked_for = 0.0
        """Seconds of the last look."""
        self.others: tuple[str, ...] = ()

    def look(self, *, seconds: float = LOOK, deadline: Deadline) -> Life:
        deadline.check("a look")
        self.looks += 1
        self.asked_for = seconds
        signs = {"arp": self.sign, "agent": self.agent}
        return Life({kind: sign for kind, sign in signs.items() if sign}, self.others)

    def boot(self, since: float) -> str:
        return self.booted

    def listening(self) -> AbstractContextManager[Callable[[], Life]]:
        return nullcontext(lambda: Life({"session": self.heard} if self.heard else {}))


def proved(
    outlet: Outlet,
    eyes: Witness | None = None,
    *,
    interval: float = 0.0,
    silence: float = SILENCE,
    hurried: bool = False,
) -> ProvedPower:
    """Return a way with a limiter of its own, without pauses."""
    return ProvedPower(
        outlet, Limiter(), interval=interval, witness=eyes, silence=silence, hurried=hurried
    )


def later(clock: VirtualClock, seconds: float, act: Callable[[], object]) -> None:
    """Do something when so much time has passed."""

    def work() -> None:
        clock.sleep(seconds)
        act()

    clock.call(work)


RELAY = Can(tell=frozenset())
"""Tells nothing."""
PDU = Can(tell=frozenset({PowerState.OFF}))
WAKE = Can(switch=frozenset({PowerState.ON}), tell=frozenset(), again=2.0, requests=100)
POLITE = Can(switch=frozenset({PowerState.OFF}), tell=frozenset(), courtesy=20.0)

"""A driver and a witness that do as they are told; time is short."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import PowerError
from cuckoo_zfsiscsi.power import Can, PowerState
from cuckoo_zfsiscsi.power.limit import Limiter
from cuckoo_zfsiscsi.power.proved import ProvedPower
from cuckoo_zfsiscsi.power.witness import Witness

_numbers = itertools.count(1)


class Outlet:
    """What a driver switches: knows what it was asked for, and fails on command."""

    def __init__(self, can: Can | None = None) -> None:
        self.peer = f"fake://{next(_numbers)}"
        self.can = can or Can(again=0.2)
        self.state = PowerState.OFF
        self.asked: list[str] = []
        self.error: PowerError | None = None
        self.stuck = False
        self.effect: Callable[[PowerState], None] = lambda state: None

    def request(self, state: PowerState, *, deadline: Deadline) -> None:
        self._ask(state.value, deadline)
        if not self.stuck:
            self.state = state
            self.effect(state)

    def query(self, *, deadline: Deadline) -> PowerState:
        self._ask("status", deadline)
        return self.state

    def _ask(self, what: str, deadline: Deadline) -> None:
        deadline.check(what)
        self.asked.append(what)
        if self.error:
            raise self.error


class Eyes:
    """A witness who sees what the test says."""

    def __init__(self) -> None:
        self.sign = ""
        self.booted = ""
        self.looks = 0

    def life(self, since: float, *, deadline: Deadline) -> str:
        deadline.check("a look")
        self.looks += 1
        return self.sign

    def boot(self, since: float) -> str:
        return self.booted


def proved(
    outlet: Outlet, eyes: Witness | None = None, *, silence: float = 0.4, hurried: bool = False
) -> ProvedPower:
    """Return a way without pauses."""
    return ProvedPower(
        outlet, Limiter(), interval=0.0, witness=eyes, silence=silence, hurried=hurried
    )


RELAY = Can(tell=frozenset(), again=0.2)
"""Tells nothing."""
PDU = Can(tell=frozenset({PowerState.OFF}), again=0.2)
WAKE = Can(switch=frozenset({PowerState.ON}), tell=frozenset(), again=0.1, requests=100)
POLITE = Can(switch=frozenset({PowerState.OFF}), tell=frozenset(), courtesy=1.0)

"""The ways to switch one host, in turn: the next when one fails or lies."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import (
    ConfigError,
    DeadlineExceededError,
    PowerError,
    ZfsIscsiError,
)
from cuckoo_zfsiscsi.power import Can, PowerState, Proof
from cuckoo_zfsiscsi.power.proved import ProvedPower
from cuckoo_zfsiscsi.power.witness import Nobody, Witness

ASK_GUEST = 5.0
"""Seconds for the request to a guest to shut down."""
LOOK = 0.5
"""Seconds between two looks whether the guest has done it."""

log = logging.getLogger(__name__)
T = TypeVar("T")


class Ways:
    """Implements Power.

    Args:
        label: of the host.
        on: ways to switch it on.
        off: ways to switch it off; those that only ask the guest are tried first, and not counted.
        witness: sees the host.

    Raises:
        ConfigError: there is no way to switch it on, none that cuts its power, or one that could
            never be proved.
    """

    def __init__(
        self, label: str, on: Sequence[ProvedPower], off: Sequence[ProvedPower], witness: Witness
    ) -> None:
        self._label = label
        self._witness = witness
        self._polite = [way for way in off if way.driver.can.courtesy]
        hard = [way for way in off if not way.driver.can.courtesy]
        self._on = [way for way in on if PowerState.ON in way.driver.can.switch]
        self._off = [way for way in hard if PowerState.OFF in way.driver.can.switch]
        self._check(PowerState.ON, self._on)
        self._check(PowerState.OFF, self._off)
        # What only feeds the host must have power itself before anything else can switch it on.
        supplies = [way for way in self._off if _is_supply(way.driver.can)]
        self._supplies = supplies if self._on[0] not in supplies else []
        self._fed = False

    def on(self, *, deadline: Deadline) -> Proof:
        """Switch on and prove it, as Power has it."""
        if not self._fed and self._feed(deadline):
            # A BMC that had no mains either starts now: another way would only disturb it.
            return self._on[0].patient().on(deadline=deadline)
        return self._try(self._on, lambda way, share: way.on(deadline=share), deadline)

    def off(self, *, deadline: Deadline) -> Proof:
        """Ask the guest if told to, then cut and prove it, as Power has it."""
        for way in self._polite:
            self._ask_guest(way, deadline)

        def cut(way: ProvedPower, share: Deadline) -> Proof:
            if way in self._supplies:
                self._fed = False
            return way.off(deadline=share)

        return self._try(self._off, cut, deadline)

    def status(self, *, deadline: Deadline) -> PowerState:
        """Ask for the state, as Power has it: whoever has proved it off last goes first."""
        telling = [way for way in self._off if PowerState.OFF in way.driver.can.tell]
        if not telling:
            return PowerState.ON if self._witness.look(deadline=deadline) else PowerState.OFF
        return self._try(telling, lambda way, share: way.status(deadline=share), deadline)

    def forget_refusals(self) -> None:
        """As Power has it."""
        for way in (*self._on, *self._off, *self._polite):
            way.forget_refusals()

    def _check(self, state: PowerState, ways: Sequence[ProvedPower]) -> None:
        if not ways:
            raise ConfigError(
                f"[{self._label}] nothing in power or power_{state.value} switches the host "
                f"{state.value}",
                fix=f"power_{state.value} = pdu+MODEL://ADDRESS?outlet=1",
            )
        for way in ways:
            if state not in way.driver.can.tell and isinstance(self._witness, Nobody):
                raise ConfigError(
                    f"[{self._label}] {way.driver.peer} can't tell that the host is {state.value}",
                    fix="it must be seen otherwise: remove power_signs = off",
                )

    def _try(
        self,
        ways: Sequence[ProvedPower],
        act: Callable[[ProvedPower, Deadline], T],
        deadline: Deadline,
    ) -> T:
        """Go through the ways; each gets an equal share of the time that is left."""
        errors: list[ZfsIscsiError] = []
        for number, way in enumerate(ways):
            left = len(ways) - number
            try:
                return act(way, deadline.within(deadline.remaining / left))
            except (PowerError, DeadlineExceededError) as error:
                if len(ways) == 1:
                    raise
                errors.append(error)
                log.warning("%s: %s", self._label, error)
        raise PowerError(
            f"{self._label}: no way works: " + "; ".join(error.what for error in errors),
            fix=errors[-1].fix or errors[0].fix,
        )

    def _feed(self, deadline: Deadline) -> bool:
        """Give the host mains again where that was cut: without, nothing else can wake it."""
        was_cut = False
        for way in self._supplies:
            if way.status(deadline=deadline) is PowerState.OFF:
                log.info("%s: mains on by %s", self._label, way.driver.peer)
                way.request(PowerState.ON, deadline=deadline)
                was_cut = True
        self._fed = True
        return was_cut

    def _ask_guest(self, way: ProvedPower, deadline: Deadline) -> None:
        """Ask for a shutdown and wait a little, whatever comes of it: the cut follows."""
        patience = min(way.driver.can.courtesy, deadline.remaining / 2)
        try:
            way.request(PowerState.OFF, deadline=deadline.within(min(ASK_GUEST, patience)))
            waiting = deadline.within(patience)
            while self._witness.look(deadline=waiting):
                waiting.sleep(LOOK, f"{way.driver.peer}: shutdown")
        except (PowerError, DeadlineExceededError) as error:
            log.info("%s: %s", self._label, error.what)


def _is_supply(can: Can) -> bool:
    return can.tell == {PowerState.OFF} and PowerState.ON in can.switch

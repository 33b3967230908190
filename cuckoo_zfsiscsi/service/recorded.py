"""The power of a host, with each switch and each failure told to whoever keeps the record."""

from __future__ import annotations

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import CancelledError, ZfsIscsiError
from cuckoo_zfsiscsi.power import Power, PowerState, Proof
from cuckoo_zfsiscsi.service.events import Event, Events


class RecordedPower:
    """Implements Power, by another one.

    Args:
        label: of the host.
        power: does it.
        events: hear of it.
    """

    def __init__(self, label: str, power: Power, events: Events) -> None:
        self._label = label
        self._power = power
        self._events = events

    def on(self, *, deadline: Deadline) -> Proof:
        """As Power.on()."""
        return self._switch(PowerState.ON, deadline)

    def off(self, *, deadline: Deadline) -> Proof:
        """As Power.off()."""
        return self._switch(PowerState.OFF, deadline)

    def status(self, *, deadline: Deadline) -> PowerState:
        """As Power.status(); only a failure is noted: a question that was given up is none."""
        begin = deadline.clock.monotonic()
        try:
            return self._power.status(deadline=deadline)
        except CancelledError:
            raise
        except ZfsIscsiError as error:
            self._note(f"status: {error.what}", begin, deadline, ok=False)
            raise

    def forget_refusals(self) -> None:
        """As Power.forget_refusals()."""
        self._power.forget_refusals()

    def _switch(self, state: PowerState, deadline: Deadline) -> Proof:
        begin = deadline.clock.monotonic()
        switch = self._power.on if state is PowerState.ON else self._power.off
        try:
            proof = switch(deadline=deadline)
        except ZfsIscsiError as error:
            self._note(f"{state.value}: {error.what}", begin, deadline, ok=False)
            raise
        self._note(f"{state.value}: {proof.why} ({proof.peer})", begin, deadline, ok=True)
        return proof

    def _note(self, what: str, begin: float, deadline: Deadline, *, ok: bool) -> None:
        seconds = deadline.clock.monotonic() - begin
        self._events.note(Event(self._label, "power", ok, what, seconds=seconds))

"""Power that is proved, not assumed: ask, then look until it is so, before a deadline."""

from __future__ import annotations

import copy
import logging

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import DeadlineExceededError, PowerError
from cuckoo_zfsiscsi.power import Aimed, Driver, PowerState, Proof, Remembering
from cuckoo_zfsiscsi.power.limit import Limiter
from cuckoo_zfsiscsi.power.manners import Manners
from cuckoo_zfsiscsi.power.witness import Nobody, Witness

LOOK = 0.2
"""Least seconds between two looks at the state."""
SILENCE = 10.0

log = logging.getLogger(__name__)


class ProvedPower:
    """The discipline around one driver (Power).

    Args:
        driver: how to ask.
        limiter: of the BMC, shared with whoever else asks it.
        interval: least seconds between two commands to the BMC.
        witness: sees the host itself.
        silence: seconds without a sign of life that prove "off" when the driver can't tell.
        repeat_after: seconds, instead of the driver's own Can.again.
        hurried: there is another way: give up at once while the BMC is left in peace.
    """

    def __init__(
        self,
        driver: Driver,
        limiter: Limiter,
        *,
        interval: float = 1.0,
        witness: Witness | None = None,
        silence: float = SILENCE,
        repeat_after: float | None = None,
        hurried: bool = False,
    ) -> None:
        self.driver = driver
        self._manners = Manners(driver.peer, limiter, interval, hurried=hurried)
        self._witness = witness or Nobody()
        self._silence = silence
        self._again = driver.can.again if repeat_after is None else repeat_after

    def patient(self) -> ProvedPower:
        """Return the same way, for who has no other."""
        one = copy.copy(self)
        one._manners = self._manners.patient()
        return one

    def on(self, *, deadline: Deadline) -> Proof:
        """Switch on and prove it, as Power has it."""
        return self._switch(PowerState.ON, deadline)

    def off(self, *, deadline: Deadline) -> Proof:
        """Switch off at once and prove it, as Power has it."""
        return self._switch(PowerState.OFF, deadline)

    def status(self, *, deadline: Deadline) -> PowerState:
        """Ask for the state, as Power has it."""
        return self._manners.ask(lambda: self.driver.query(deadline=deadline), "status", deadline)

    def request(self, state: PowerState, *, deadline: Deadline) -> None:
        """Ask for a state and prove nothing.

        Raises:
            PowerError, DeadlineExceededError, CancelledError: the request was not taken.
        """
        self._manners.ask(
            lambda: self.driver.request(state, deadline=deadline), state.value, deadline
        )

    def forget_refusals(self) -> None:
        """As Power has it."""
        if isinstance(self.driver, Remembering):
            self.driver.forget_refusals()

    def _switch(self, wanted: PowerState, deadline: Deadline) -> Proof:
        """Request first, even if the state is right already: an earlier wish may be under way."""
        driver, clock = self.driver, deadline.clock
        begin = clock.monotonic()
        what = f"{driver.peer}: power {wanted.value}"
        watch = _Watch(wanted, self._witness, self._silence, begin)
        requests, asked_at = 0, 0.0
        if wanted is PowerState.ON and isinstance(driver, Aimed):
            self._manners.ask(
                lambda: driver.aim(deadline=deadline), "on (next boot device)", deadline
            )
        try:
            while True:
                due = requests == 0 or clock.monotonic() >= asked_at + self._again
                if due and requests < driver.can.requests:
                    self.request(wanted, deadline=deadline)
                    requests, asked_at = requests + 1, clock.monotonic()
                    log.debug("%s: acknowledged (%d)", what, requests)
                else:
                    deadline.sleep(LOOK, what)
                told = self.status(deadline=deadline) if wanted in driver.can.tell else None
                if why := watch.proof(told, asked_at, deadline):
                    break
        except DeadlineExceededError:
            if not watch.seen:
                raise
            raise PowerError(
                f"{driver.peer} says it switched {wanted.value} but {watch.seen} "
                f"after {deadline.seconds:.1f} s",
                fix="look at the host: is it wired to this device and this outlet? reset the BMC",
            ) from None
        seconds = clock.monotonic() - begin
        log.info("%s: proved in %.1f s: %s", what, seconds, why)
        return Proof(wanted, driver.peer, why, seconds, requests)


class _Watch:
    """Decides when a switch is proved: by what the driver tells, and what the host shows."""

    def __init__(self, wanted: PowerState, witness: Witness, silence: float, begin: float) -> None:
        self._wanted = wanted
        self._witness = witness
        self._silence = silence
        self._begin = begin
        self._silent_since: float | None = None
        self.seen = ""
        """What contradicts the wanted state, for people; "" as long as nothing is known."""

    def proof(self, told: PowerState | None, asked_at: float, deadline: Deadline) -> str:
        """Look once; return what proves it, or "".

        Args:
            told: the driver's word; None when it can't tell this state.
            asked_at: when the last request was acknowledged (monotonic seconds).
            deadline: for the look.
        """
        if told is not None and told is not self._wanted:
            self.seen = f"is still {told.value}"
            return ""
        if self._wanted is PowerState.ON:
            return "the device says on" if told else self._proof_of_boot(deadline)
        asked = deadline.clock.monotonic()
        life = self._witness.life(asked_at, deadline=deadline)
        if life:
            self._silent_since = None
            self.seen = f"the host lives, {life},"
            return ""
        if told:
            return "the device says off, and no sign of life"
        self._silent_since = self._silent_since or asked
        silent = deadline.clock.monotonic() - self._silent_since
        if silent >= self._silence:
            return f"no sign of life for {silent:.0f} s"
        self.seen = f"the host has been silent for {silent:.1f} s only"
        return ""

    def _proof_of_boot(self, deadline: Deadline) -> str:
        sign = self._witness.boot(self._begin)
        sign = sign or self._witness.life(deadline.clock.monotonic(), deadline=deadline)
        self.seen = "there is no sign of a boot"
        return f"first sign of boot: {sign}" if sign else ""

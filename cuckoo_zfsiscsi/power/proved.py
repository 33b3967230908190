"""Power that is proved, not assumed: ask, then look until it is so, before a deadline."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from functools import partial
from typing import cast

from cuckoo_zfsiscsi.at_once import at_once
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import DeadlineExceededError, PowerError
from cuckoo_zfsiscsi.power import Aimed, Driver, PowerState, Proof, Remembering
from cuckoo_zfsiscsi.power.limit import Limiter
from cuckoo_zfsiscsi.power.manners import Manners
from cuckoo_zfsiscsi.power.witness import Life, Nobody, Witness

LOOK = 0.2
"""Least seconds between two looks at the state."""
SILENCE, QUIET = 10.0, 1.0

log = logging.getLogger(__name__)


class ProvedPower:
    """The discipline around one driver (Power).

    Args:
        driver: how to ask.
        limiter: of the BMC, shared with whoever else asks it.
        interval: least seconds between two commands to the BMC.
        witness: sees the host itself.
        silence: seconds without a sign of life that prove "off" when the driver can't tell.
        quiet: seconds that do when it can, and says so.
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
        quiet: float = QUIET,
        repeat_after: float | None = None,
        hurried: bool = False,
    ) -> None:
        self.driver = driver
        self._manners = Manners(driver.peer, limiter, interval, hurried=hurried)
        self._witness = witness or Nobody()
        self._silence = silence
        self._quiet = quiet
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
        before = Life()
        if wanted is PowerState.ON:
            if wanted not in driver.can.tell:
                before = self._witness.look(deadline=deadline)
            if isinstance(driver, Aimed):
                self._manners.ask(
                    lambda: driver.aim(deadline=deadline), "on (next boot device)", deadline
                )
        watch = _Watch(self._witness, self._silence, clock.monotonic(), before)
        requests, asked_at = 0, 0.0
        try:
            while True:
                due = requests == 0 or clock.monotonic() >= asked_at + self._again
                if due and requests < driver.can.requests:
                    self.request(wanted, deadline=deadline)
                    requests, asked_at = requests + 1, clock.monotonic()
                    log.debug("%s: acknowledged (%d)", what, requests)
                else:
                    deadline.sleep(LOOK, what)
                if why := self._look(wanted, watch, deadline):
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
        return Proof(wanted, driver.peer, why, seconds, requests, watch.others)

    def _look(self, wanted: PowerState, watch: _Watch, deadline: Deadline) -> str:
        """Look once; return what proves the state, or ""."""
        if wanted is PowerState.ON:
            if wanted not in self.driver.can.tell:
                return watch.proof_of_boot(deadline)
            return watch.device_says(self.status(deadline=deadline), wanted)
        if wanted not in self.driver.can.tell:
            return watch.proof_of_silence(deadline)
        # Whatever the device says must be so for some time, which it has while it is asked.
        quiet = partial(self._witness.look, seconds=self._quiet, deadline=deadline)
        calls: list[Callable[[], object]] = [partial(self.status, deadline=deadline), quiet]
        told, life = at_once(calls, deadline.clock, "off")
        why = watch.device_says(cast("PowerState", told.result()), wanted)
        return why and watch.silence(why, cast("Life", life.result()), self._quiet)


class _Watch:
    """Decides when a switch is proved: by what the driver tells, and what the host shows."""

    def __init__(self, witness: Witness, silence: float, begin: float, before: Life) -> None:
        self._witness = witness
        self._silence = silence
        self._begin = begin
        self._before = before
        self._silent_since: float | None = None
        self.seen = ""
        """What contradicts the wanted state, for people; "" as long as nothing is known."""
        self.others: tuple[str, ...] = ()
        """Who spoke in the host's place."""

    def device_says(self, told: PowerState, wanted: PowerState) -> str:
        """Return the device's word for it, or "" if it says otherwise."""
        if told is wanted:
            return f"the device says {told.value}"
        self.seen = f"is still {told.value}"
        return ""

    def silence(self, why: str, life: Life, seconds: float) -> str:
        """Return why it is off, when nothing was seen for so long; or ""."""
        if self._lives(life):
            return ""
        return f"{why}, and no sign of life for {seconds:g} s" + self._not_counted(life)

    def proof_of_silence(self, deadline: Deadline) -> str:
        """Look once; return why it is off if nothing was seen for long enough, or ""."""
        asked = deadline.clock.monotonic()
        life = self._witness.look(deadline=deadline)
        if self._lives(life):
            self._silent_since = None
            return ""
        self._silent_since = self._silent_since or asked
        silent = deadline.clock.monotonic() - self._silent_since
        if silent >= self._silence:
            return f"no sign of life for {silent:.0f} s" + self._not_counted(life)
        self.seen = f"the host has been silent for {silent:.1f} s only"
        return ""

    def proof_of_boot(self, deadline: Deadline) -> str:
        """Look once; return the sign of a boot that there was not before, or ""."""
        # Who lived before may ask for an address, or a script, at any time
        sign = "" if self._before else self._witness.boot(self._begin)
        sign = sign or str(self._witness.look(deadline=deadline).beyond(self._before))
        self.seen = "there is no sign of a boot"
        if self._before:
            self.seen = f"there is no new sign of a boot ({self._before}, and so it did before)"
        return f"first sign of boot: {sign}" if sign else ""

    def _lives(self, life: Life) -> bool:
        if life:
            self.seen = f"the host lives, {life},"
        return bool(life)

    def _not_counted(self, life: Life) -> str:
        self.others = life.others
        return f" (not counted: {'; '.join(life.others)})" if life.others else ""

"""Power that is proved, not assumed: ask, then look until it is so, before a deadline."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import DeadlineExceededError, PowerError, TransientPowerError
from cuckoo_zfsiscsi.power import Driver, PowerState
from cuckoo_zfsiscsi.power.limit import Limiter

REPEAT_AFTER = 10.0
"""Seconds after which an acknowledged request without effect is made again."""
REQUESTS = 3
"""Acknowledged requests in one switch; then it is only watched."""
LOOK = 0.2
"""Least seconds between two looks at the state."""
BACK_OFF = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Seconds of pause after the first, second, ... transient failure in a row; the last stays."""

log = logging.getLogger(__name__)
T = TypeVar("T")


class ProvedPower:
    """The discipline around one driver (Power).

    Args:
        driver: how to ask.
        limiter: of the BMC, shared with whoever else asks it.
        interval: least seconds between two commands to the BMC.
        repeat_after: seconds, see REPEAT_AFTER.
    """

    def __init__(
        self,
        driver: Driver,
        limiter: Limiter,
        *,
        interval: float = 1.0,
        repeat_after: float = REPEAT_AFTER,
    ) -> None:
        self._driver = driver
        self._limiter = limiter
        self._interval = interval
        self._repeat_after = repeat_after

    def on(self, *, deadline: Deadline) -> None:
        """Switch on and prove it, as Power has it."""
        self._switch(PowerState.ON, deadline)

    def off(self, *, deadline: Deadline) -> None:
        """Switch off at once and prove it, as Power has it."""
        self._switch(PowerState.OFF, deadline)

    def status(self, *, deadline: Deadline) -> PowerState:
        """Ask for the state, as Power has it."""
        return self._ask(lambda: self._driver.query(deadline=deadline), "status", deadline)

    def _switch(self, wanted: PowerState, deadline: Deadline) -> None:
        """Request first, even if the state is right already: an earlier wish may be under way."""
        what = f"{self._driver.peer}: power {wanted.value}"
        state: PowerState | None = None
        requests, asked_at = 0, 0.0
        try:
            while state is not wanted:
                due = requests == 0 or time.monotonic() >= asked_at + self._repeat_after
                if due and requests < REQUESTS:
                    self._request(wanted, deadline)
                    requests, asked_at = requests + 1, time.monotonic()
                    log.info("%s: acknowledged (%d)", what, requests)
                else:
                    deadline.sleep(LOOK, what)
                state = self.status(deadline=deadline)
        except DeadlineExceededError:
            if state is None:
                raise
            raise PowerError(
                f"{self._driver.peer} says it switched {wanted.value} but is still {state.value} "
                f"after {deadline.seconds:.1f} s",
                fix="look at the host; reset the BMC: ipmitool mc reset cold",
            ) from None
        log.info("%s: proved", what)

    def _request(self, wanted: PowerState, deadline: Deadline) -> None:
        self._ask(lambda: self._driver.request(wanted, deadline=deadline), wanted.value, deadline)

    def _ask(self, command: Callable[[], T], what: str, deadline: Deadline) -> T:
        """Run one command in its turn, again as long as it fails in a transient way."""
        what = f"{self._driver.peer}: power {what}"
        failures = 0
        last: TransientPowerError | None = None
        try:
            while True:
                with self._limiter.turn(self._interval, deadline=deadline, what=what):
                    try:
                        return command()
                    except TransientPowerError as error:
                        last = error
                log.warning("%s", last)
                deadline.sleep(BACK_OFF[min(failures, len(BACK_OFF) - 1)], what)
                failures += 1
        except DeadlineExceededError:
            if last is None:
                raise
            raise PowerError(
                f"{last.what}, asked {failures + 1} times in {deadline.seconds:.1f} s", fix=last.fix
            ) from None

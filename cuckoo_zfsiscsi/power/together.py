"""Several devices that switch one host together: dual supplies. Off is off of all of them."""

from __future__ import annotations

from collections.abc import Sequence

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.power import Can, Driver, PowerState, Remembering
from cuckoo_zfsiscsi.power.limit import limiter_for


class Together:
    """Implements Driver over several, each asked in its own device's turn.

    Args:
        drivers: two or more.
        interval: least seconds between two commands to one device.
    """

    def __init__(self, drivers: Sequence[Driver], interval: float) -> None:
        self._drivers = drivers
        self._interval = interval
        self.peer = " and ".join(driver.peer for driver in drivers)
        self.can = Can(
            switch=frozenset.intersection(*(driver.can.switch for driver in drivers)),
            tell=frozenset.intersection(*(driver.can.tell for driver in drivers)),
        )

    def request(self, state: PowerState, *, deadline: Deadline) -> None:
        """Ask each of them, as Driver has it."""
        for driver in self._drivers:
            with limiter_for(driver.peer).turn(
                self._interval, deadline=deadline, what=f"{driver.peer}: power {state.value}"
            ):
                driver.request(state, deadline=deadline)

    def query(self, *, deadline: Deadline) -> PowerState:
        """Ask each of them, as Driver has it: one that is on is enough."""
        states = []
        for driver in self._drivers:
            with limiter_for(driver.peer).turn(
                self._interval, deadline=deadline, what=f"{driver.peer}: power status"
            ):
                states.append(driver.query(deadline=deadline))
        return PowerState.ON if PowerState.ON in states else PowerState.OFF

    def forget_refusals(self) -> None:
        """As Remembering has it, of those that are."""
        for driver in self._drivers:
            if isinstance(driver, Remembering):
                driver.forget_refusals()

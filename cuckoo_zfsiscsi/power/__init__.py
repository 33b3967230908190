"""Power: the driver protocol, and the discipline around every driver."""

from __future__ import annotations

from enum import Enum
from typing import Protocol

from cuckoo_zfsiscsi.deadline import Deadline


class PowerState(str, Enum):
    """What a driver can say of a host."""

    ON = "on"
    OFF = "off"


class Driver(Protocol):
    """One way to switch power. It asks once and judges nothing: proving is done around it.

    A module of this package whose name is a URL scheme has `connect(url, secret) -> Driver`;
    that is all that registers it.
    """

    @property
    def peer(self) -> str:
        """Name of what it talks to, for messages and rate limits: ipmi://10.0.0.1:623."""
        ...

    def request(self, state: PowerState, *, deadline: Deadline) -> None:
        """Ask for on or off (hard, at once), without waiting for the outcome.

        Raises:
            TransientPowerError: known to go away when asked again.
            PowerError: anything else.
        """
        ...

    def query(self, *, deadline: Deadline) -> PowerState:
        """Ask for the state of now.

        Raises:
            TransientPowerError, PowerError: as request().
        """
        ...


class Power(Protocol):
    """What a host sees: switches power and proves it."""

    def on(self, *, deadline: Deadline) -> None:
        """Switch on; return when it is proved.

        Raises:
            PowerError, DeadlineExceededError, CancelledError: not proved.
        """
        ...

    def off(self, *, deadline: Deadline) -> None:
        """Switch off at once; return when it is proved.

        Raises:
            PowerError, DeadlineExceededError, CancelledError: not proved.
        """
        ...

    def status(self, *, deadline: Deadline) -> PowerState:
        """Ask for the state of now.

        Raises:
            PowerError, DeadlineExceededError, CancelledError: no trustworthy answer.
        """
        ...

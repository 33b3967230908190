"""Power: the driver protocol, and the discipline around every driver.

All of it goes by the clock of the deadline that it is given. What is kept from call to call, such
as how long a device is left in peace, are moments of that clock; so nothing here has its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Protocol, runtime_checkable

from cuckoo_zfsiscsi.deadline import Deadline


class PowerState(str, Enum):
    """What a driver can say of a host."""

    ON = "on"
    OFF = "off"


BOTH = frozenset(PowerState)


@dataclass(frozen=True)
class Can:
    """What a driver is good for."""

    switch: frozenset[PowerState] = BOTH
    """To where it switches."""
    tell: frozenset[PowerState] = BOTH
    """States that it knows of the host. What it can't tell is proved by the host's own signs."""
    courtesy: float = 0.0
    """Seconds that a guest, asked to shut down, gets for it. Never trusted: a hard way follows."""
    again: float = 10.0
    """Seconds after which an acknowledged request without effect is made again."""
    requests: int = 3
    """Acknowledged requests in one switch; then it is only watched."""


class Driver(Protocol):
    """One way to switch power. It asks once and judges nothing: proving is done around it.

    A module of this package whose name is a URL scheme has `connect(url, secret) -> Driver`;
    that is all that registers it.
    """

    @property
    def peer(self) -> str:
        """Name of what it talks to, for messages and rate limits: ipmi://10.0.0.1:623."""
        ...

    @property
    def can(self) -> Can:
        """What it is good for."""
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


@runtime_checkable
class Aimed(Protocol):
    """A driver that can tell the host to boot from the network, once."""

    def aim(self, *, deadline: Deadline) -> None:
        """Make the network the next boot's device.

        Raises:
            TransientPowerError, PowerError: as Driver.request().
        """
        ...


@runtime_checkable
class Remembering(Protocol):
    """A driver that does not try a refused password again."""

    def forget_refusals(self) -> None:
        """Try it once more: a person asks."""
        ...


@dataclass(frozen=True)
class Proof:
    """How a state was proved."""

    state: PowerState
    peer: str
    """Driver.peer of what switched it."""
    why: str
    """What proves it, for people."""
    seconds: float
    requests: int = 0
    """How often it was asked for."""
    others: tuple[str, ...] = ()
    """Who answered in the host's place meanwhile, for people. That did not count."""


class Power(Protocol):
    """What a host sees: switches power and proves it."""

    def on(self, *, deadline: Deadline) -> Proof:
        """Switch on; return when it is proved.

        Raises:
            PowerError, DeadlineExceededError, CancelledError: not proved.
        """
        ...

    def off(self, *, deadline: Deadline) -> Proof:
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

    def forget_refusals(self) -> None:
        """Try passwords that were refused once more: a person asks."""
        ...

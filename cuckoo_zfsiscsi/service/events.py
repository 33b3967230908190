"""What happens to hosts: boots, resets, power actions, failures. Who hears of it, and how."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, Protocol, get_args

from cuckoo_zfsiscsi.text import shown

Kind = Literal["boot", "reset", "power", "failure", "healed"]

KINDS: tuple[Kind, ...] = get_args(Kind)

LONGEST = 500
"""Characters of a text that are kept: a guest or a BMC may have said any number of them."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that is over."""

    host: str
    kind: Kind
    ok: bool
    """Whether it came to what was wanted."""
    what: str
    """One line for people. Parts of it may be a BMC's or a guest's words."""
    generation: int | None = None
    image: str | None = None
    """name@version."""
    seconds: float | None = None
    """That it took; of a boot, from the power-on request until the host was ready."""
    stages: dict[str, float] = field(default_factory=dict)
    """Seconds, of a boot or reset; as BootReport.stages, and a boot's `recovery`."""
    prewarmed: bool = False
    """Of a boot: it was begun while nobody waited for the host."""
    at: float = field(default_factory=time.time)
    """Seconds since the epoch when it was over."""


class Events(Protocol):
    """Hears of events, from any thread. It neither waits nor fails."""

    def note(self, event: Event) -> None:
        """Take one."""
        ...


class Unheard:
    """Implements Events: nobody listens."""

    def note(self, event: Event) -> None:
        """As Events.note()."""


class Everyone:
    """Implements Events: passes them on.

    Args:
        listeners: all that hear them.
    """

    def __init__(self, listeners: Iterable[Events]) -> None:
        self._listeners = tuple(listeners)

    def note(self, event: Event) -> None:
        """As Events.note()."""
        for listener in self._listeners:
            listener.note(event)


def one_line(text: str) -> str:
    """Return a text fit for a record: no control characters (terminals obey them), not too long."""
    return shown(text, LONGEST)

"""What a host is made of: protocols, and no driver."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from typing import Protocol

from cuckoo_zfsiscsi.clock import Clock
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.store import Store
from cuckoo_zfsiscsi.disk.target import Target
from cuckoo_zfsiscsi.power import Power
from cuckoo_zfsiscsi.power.witness import Nobody, Witness
from cuckoo_zfsiscsi.readiness import Answer
from cuckoo_zfsiscsi.readiness.session import is_held
from cuckoo_zfsiscsi.service.events import Events, Unheard
from cuckoo_zfsiscsi.service.history import Nowhere, Runs
from cuckoo_zfsiscsi.service.pace import Pace

Probe = Callable[[Deadline], Answer]

Tell = Callable[[Deadline], str]
"""Tells a system what it must know; returns what went wrong, with the cure, or nothing."""

DeleteFlows = Callable[[Deadline], str]
"""Deletes what a gateway's kernel tracks of a host; returns what went wrong, with the cure, or
nothing."""


Ask = Callable[[], "str | Future[str]"]
"""As netboot.boots.Ask."""


class Held(Protocol):
    """Tells whether a host is at its end of its session: readiness.session.is_held()."""

    def __call__(
        self,
        portal: IPv4Address,
        port: int,
        host: IPv4Address,
        *,
        quiet: float,
        deadline: Deadline,
    ) -> bool:
        """As is_held()."""
        ...


class Boots(Protocol):
    """Hands boot scripts to armed hosts and to nobody else."""

    def arm(self, label: str, script: str | Ask, files: Mapping[str, Path] | None = None) -> None:
        """Serve this script, and files that it loads, to the host from now on."""
        ...

    def disarm(self, label: str) -> None:
        """Serve the host nothing from now on."""
        ...


@dataclass(frozen=True)
class Parts:
    """What a host is made of. It knows these protocols and no driver."""

    store: Store
    target: Target
    power: Power
    boots: Boots
    probes: Mapping[str, Probe]
    """By stage name, in the order in which they must answer."""
    default_route: Tell | None = None
    """Tells the system that has just booted; None: it learns its default route by itself."""
    delete_flows: DeleteFlows | None = None
    """None: nobody tracks any."""
    witness: Witness = field(default_factory=Nobody)
    """Sees whether the host lives, whatever its power device says."""
    is_held: Held = is_held
    """Asks a host's kernel for its session."""
    sees_dhcp: bool = False
    """Whoever gives the host its address tells us so."""
    script_times: Callable[[], list[float]] = list
    """Seconds from power-on until it asked for its boot script, in boots that went well."""
    others: Callable[[], str] = str
    """Who else is on in the host's network now, for people; "" if nobody is known."""
    runs: Runs = field(default_factory=Nowhere)
    """Is told of each run."""
    events: Events = field(default_factory=Unheard)
    """Hears what happens to the host."""
    pace: Pace = field(default_factory=Pace)
    """Of all hosts together."""

    @property
    def clock(self) -> Clock:
        """That the host goes by."""
        return self.pace.clock

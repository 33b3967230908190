"""What the service says of a host: its state, its run, and how its last boot went."""

from __future__ import annotations

import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from enum import Enum

STAGES = ("power", "dhcp", "tftp", "ipxe", "script", "login", "rpc", "agent")
"""Stages of a boot in the order in which they come; seconds since the power-on request.

dhcp: the network card's ROM, or iPXE in it, got an address; tftp: the boot file was sent; ipxe: the
iPXE that was loaded got an address. The boot file's two are missing where the ROM is iPXE."""

RESET_STAGES = ("fence", "swap", "rollback", "prove", "arm")
"""Stages of a reset in their order, each a duration in seconds."""


class State(str, Enum):
    """A host is in exactly one of these; what is not known is dirty."""

    UNKNOWN = "unknown"
    DIRTY = "dirty"
    CLEAN = "clean"
    BOOTING = "booting"
    READY = "ready"
    RUNNING = "running"
    STOPPING = "stopping"
    QUARANTINED = "quarantined"
    MAINTENANCE = "maintenance"


@dataclass(slots=True)
class BootReport:
    """One boot, filled in as it goes on."""

    host: str
    generation: int
    image: str
    prewarmed: bool
    """It was begun while nobody waited for the host."""
    started: float = field(default_factory=time.time)
    """Seconds since the epoch."""
    stages: dict[str, float] = field(default_factory=dict)
    """Seconds: fence, swap, prove, arm are durations; STAGES count from the power-on request."""
    recovery_s: float | None = None
    """Seconds from power cut to RPC answering again (paper, 6.2), less the time the host idled."""
    ready: bool = False
    stalled: str = ""
    """The stage that it did not reach and the likely causes, if it did not become ready in time."""
    warning: str = ""
    """What went wrong without keeping it from being ready, and how to mend it."""


@dataclass(slots=True)
class Run:
    """One analysis: from start() to stop()."""

    task: str | None
    image: str
    """name or name@version."""
    booted: Future[BootReport] = field(default_factory=Future)
    since: float = field(default_factory=time.time)
    """Seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class HostReport:
    """A host at one moment."""

    label: str
    state: State
    since: float
    """Seconds since the epoch when it came into this state."""
    reason: str
    """Why it is quarantined, and how to help; else empty."""
    step: str
    """What the service does with it right now; empty when it waits."""
    warning: str
    """What went wrong at its last boot or in the background without stopping it; else empty."""
    image: str | None
    generation: int | None
    task: str | None
    """The task that the current run belongs to."""
    run: bool
    """A run holds or awaits the host."""
    last_boot: BootReport | None
    seen: list[str] = field(default_factory=list)
    """What may explain an empty report of the last run, once that is over; often nothing."""
    start_error: str = ""
    """Why the last start came to no run, and how to help; empty again from the next start on."""

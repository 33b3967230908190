"""What a host does next: one pure function from what is true and wished to one step."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from cuckoo_zfsiscsi.service.report import State

OFF = (State.DIRTY, State.CLEAN)
"""States in which power was proved off, and only this service switches it."""


class Step(str, Enum):
    """What a worker can do; the value says it to people."""

    CUT = "cutting power"
    RETIRE = "fencing"
    RESET = "resetting the disk"
    START_UP = "booting"
    EDIT = "booting a draft"
    HEAL = "leaving quarantine"
    HAND_OVER = "handing over"
    CHECK_ALIVE = "checking"


DURING = {Step.CUT: State.STOPPING, Step.START_UP: State.BOOTING}
"""The state that a host is in while a step goes on, where that is another one."""


@dataclass(frozen=True)
class Facts:
    """All that the decision hangs on."""

    state: State
    cut_wanted: bool = False
    closing: bool = False
    quarantined: bool = False
    may_retry: bool = True
    """The pause after the last failure is over."""
    maintenance: bool = False
    draft: bool = False
    """A host in maintenance shall boot an image's draft."""
    prewarm: bool = False
    run: bool = False
    """Someone wants the host up, or has it."""
    right_image: bool = True
    """The disk in place is a clone of the wanted image version."""
    look_due: bool = False
    """A host that stands by should be looked at again."""
    stale: bool = False
    """A host has stood by for so long that it should be booted anew."""
    may_boot: bool = True
    """The pause after a void boot is over."""


def next_step(facts: Facts) -> Step | None:
    """Decide. None: wait for a wish, or for time to pass."""
    if facts.cut_wanted:
        return Step.CUT
    if facts.closing or (facts.quarantined and not facts.may_retry):
        return None
    if facts.state is State.UNKNOWN:
        return Step.CUT
    if facts.maintenance:
        if facts.state is State.MAINTENANCE:
            return Step.EDIT if facts.draft else None
        return Step.RETIRE if facts.state in OFF else Step.CUT
    # A quarantined host must show that it boots before it is trusted again.
    wanted_up = facts.run or facts.prewarm or facts.quarantined
    if facts.state is State.DIRTY or (facts.state is State.CLEAN and not facts.right_image):
        return Step.RESET
    if facts.state is State.CLEAN:
        return Step.START_UP if wanted_up and facts.may_boot else None
    if facts.state is State.READY:
        return _when_ready(facts)
    return None


def _when_ready(facts: Facts) -> Step | None:
    if facts.quarantined:
        return Step.HEAL
    if not facts.right_image:
        return Step.CUT
    if facts.run:
        return Step.HAND_OVER
    if not facts.prewarm or facts.stale:
        return Step.CUT
    return Step.CHECK_ALIVE if facts.look_due else None

"""What was seen of a host in a run, in sentences: they explain a report that is empty."""

from __future__ import annotations

from dataclasses import dataclass, field

SURE = 2
"""Looks in a row that must be in vain before a guest counts as silent: one may be busy."""


@dataclass(slots=True)
class Sign:
    """Something that a host in a run shows, looked for again and again."""

    last: float = 0.0
    """Seconds into the run when it was there last: it was at the beginning."""
    missed: int = 0
    """Looks since then that did not find it."""

    def look(self, found: bool, at: float) -> None:
        """Take what one look found, so many seconds into the run."""
        if found:
            self.last, self.missed = at, 0
        else:
            self.missed += 1


@dataclass(slots=True)
class Seen:
    """All that was seen in one run, up to its last look."""

    guest: str
    """What of the guest is asked: its agent, its RPC service."""
    session: Sign = field(default_factory=Sign)
    """This generation's iSCSI session, with a host at its other end."""
    answer: Sign = field(default_factory=Sign)
    """Of the guest."""
    why: str = ""
    """Why the last look had no answer."""
    refused: bool = False
    """It had none because nobody was there or listened, all the time: that is no busy guest."""
    boots: int = 0
    """Boot scripts that the host got after the run had begun."""
    is_off: bool = False
    """Its power was off though nobody here had cut it."""
    given_up: str = ""
    """Why the service gave the host up in the run; else empty."""
    target_ended: str = ""
    """How the iSCSI target of this host ended by itself in the run; else empty."""

    @property
    def is_lost(self) -> bool:
        """Whether the session was not there at the last look."""
        return self.session.missed > 0

    @property
    def is_silent(self) -> bool:
        """Whether the guest did not answer, and is not only late."""
        return self.answer.missed >= SURE or (self.answer.missed > 0 and self.refused)


def explain(seen: Seen) -> list[str]:
    """Return one sentence for each thing that may have cost the run its report; often none."""
    found = []
    if seen.given_up:
        found.append(f"the service gave it up: {seen.given_up}")
    if seen.is_off:
        found.append("its power was off, and the service had not cut it")
    if seen.target_ended:
        found.append(f"its iSCSI target ended: {seen.target_ended}")
    if seen.is_lost:
        found.append(
            "its iSCSI session was lost, and its disk with it: "
            f"it was seen last {seen.session.last:.0f} s after the start"
        )
    if seen.is_silent:
        found.append(
            f"its {seen.guest} did not answer at the end: "
            f"it last did {seen.answer.last:.0f} s after the start ({seen.why})"
        )
    if seen.boots:
        times = "once" if seen.boots == 1 else f"{seen.boots} times"
        found.append(f"it was rebooted {times}: it asked for its boot script again")
    return found

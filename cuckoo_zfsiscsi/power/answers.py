"""Decides whose an answer is: of a host that lives, or of somebody who speaks in its place.

An answer to ARP or ping does not prove who gave it: whoever is on that network can give it, under
any MAC address. Two mistakes are possible. To count what is not the host's keeps a host that is
off in quarantine, for as long as a sibling likes. Not to count what is the host's takes one for
off that is on.

What is not counted is, at worst, silence. Malware that rules a host can have that for nothing: it
stops answering. So it gains nothing by answering under a sibling's address, and such an answer can
be left out without harm, as long as everything else has to be silent that it can't forge in that
way: the power device's word, the host's session, and its RPC and its agent, for which its own card
is asked then, past all ARP. What an honest host answers, it answers under its own address, and that
always counts.

Where nothing explains an answer, it counts: unknown means not off. An address of a sibling that is
itself proved to be off explains nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Whose(str, Enum):
    """Whose MAC address an answer came from."""

    OWN = "own"
    SIBLING = "sibling"
    OTHER = "other"


class Verdict(str, Enum):
    """What an answer means."""

    LIVES = "lives"
    """It counts as the host's."""
    IMPOSTOR = "impostor"
    """A sibling speaks in the host's place: it does not count, and the sibling is named."""
    PROXY = "proxy"
    """Somebody answers for others as well: it does not count, and is told."""


@dataclass(frozen=True)
class Answerer:
    """All that the decision hangs on."""

    whose: Whose
    sibling_is_off: bool = False
    """That sibling is proved to be off."""
    others: int = 0
    """Other addresses of the network for which the same card answers ARP; the gateway's is one."""


def judge(answerer: Answerer) -> Verdict:
    """Decide."""
    if answerer.whose is Whose.OWN:
        return Verdict.LIVES
    if answerer.whose is Whose.SIBLING:
        return Verdict.LIVES if answerer.sibling_is_off else Verdict.IMPOSTOR
    return Verdict.PROXY if answerer.others else Verdict.LIVES

"""Is a boot its host's alone? One request for its script and one chain of sessions, in their order.

On one wire a machine can take another's card and address, and ask in its name: no server can tell
the two apart. But the script, and the secret in it, is given once for each arming. So if the host
did not get it, the host asks a second time; and if it did, nobody else has the secret. What can't
be explained by one machine that starts once makes the boot void, whoever it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

MOST_SESSIONS = 2
"""The firmware's, and that of the system which it starts."""
LAG = 10.0
"""Seconds that a server's word may come late: it is read from its log."""
FASTER = 4.0
"""No firmware becomes so many times as fast as it ever was, from one boot to the next ..."""
LONGEST_FLOOR = 5.0
"""... or if it does, it takes so many seconds at least."""
SURE = 5
"""Boots that must have gone well before anything is learnt from them."""


class Verdict(Enum):
    """What a trace shows."""

    OPEN = "open"
    """Nothing is wrong, and something is missing yet."""
    WHOLE = "whole"
    """All is there, and nothing else."""
    VOID = "void"
    """Someone else has, or may have, used what is the host's."""


@dataclass(frozen=True, slots=True)
class Login:
    """A session when it was first seen."""

    number: int
    """The target's."""
    address: str
    """IP address of the initiator; "" if the target did not know."""
    after_script: bool
    """The script had been given by then."""


@dataclass(frozen=True, slots=True)
class Trace:
    """All that was seen of one arming until now. Times are seconds from the power-on request."""

    address: str
    """IP address of the host."""
    now: float
    asked: tuple[float, ...] = ()
    """When the script was asked for, from the host's own address."""
    logins: tuple[Login, ...] = ()
    """Each session once, in the order in which they were seen."""
    floor: float = 0.0
    """No firmware asks earlier."""
    sees_dhcp: bool = False
    """Who gives the host its address tells us."""
    dhcp: float | None = None
    """When the host was first given it."""
    boot_file: float | None = None
    """When a boot file was last sent to it."""
    reboots: int = 0
    """How often its image's system may reboot before it is ready."""


def judge(trace: Trace) -> tuple[Verdict, str]:
    """Decide, and say why it is void or what is missing; "" if it is whole."""
    if wrong := _wrong(trace):
        return Verdict.VOID, wrong
    if missing := _missing(trace):
        return Verdict.OPEN, missing
    return Verdict.WHOLE, ""


def _wrong(trace: Trace) -> str:
    asked, logins, boots = trace.asked, trace.logins, 1 + trace.reboots
    if asked and asked[0] < trace.floor:
        return (
            f"its boot script was asked for {asked[0]:.2f} s after power-on, and its firmware "
            f"needs {trace.floor:.2f} s at least"
        )
    if len(asked) > boots:
        times = "a second time" if boots == 1 else f"{len(asked)} times"
        return f"its boot script was asked for {times}"
    if asked and trace.boot_file is not None and trace.boot_file > asked[-1] + LAG and boots == 1:
        return "a boot file was loaded in its name after its boot script had been given"
    if asked and trace.sees_dhcp and not _has_address(trace) and trace.now > asked[0] + LAG:
        return "its boot script was asked for, but no address"
    if strangers := [one.address for one in logins if one.address not in ("", trace.address)]:
        return f"someone logged in to its disk from {strangers[0]}"
    if not all(one.after_script for one in logins):
        return "someone logged in to its disk before its boot script was given"
    if len(logins) > MOST_SESSIONS * boots:
        return f"its disk had {len(logins)} sessions, and one boot has {MOST_SESSIONS}"
    return ""


def _missing(trace: Trace) -> str:
    if not trace.asked:
        return "its boot script was not asked for"
    if not trace.logins:
        return "nobody has logged in to its disk"
    if trace.sees_dhcp and not _has_address(trace):
        return "it was not seen to get its address"
    return ""


def _has_address(trace: Trace) -> bool:
    """Whether it was given its address before it asked for its script, as far as can be told."""
    return trace.dhcp is not None and bool(trace.asked) and trace.dhcp <= trace.asked[0] + LAG


def floor(least: float, seen: list[float]) -> float:
    """Return seconds from the power-on request before which a host's firmware asks for no script.

    Args:
        least: by the configuration; 0 if nothing is known, and nothing shall be learnt.
        seen: seconds that it took in boots that went well.
    """
    if not least or len(seen) < SURE:
        return least
    return max(least, min(min(seen) / FASTER, LONGEST_FLOOR))

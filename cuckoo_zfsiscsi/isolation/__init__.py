"""Do hosts reach each other? On record for each pair; and what follows for each network."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

State = Literal["isolated", "not isolated", "not known"]

TASK = "isolation"
"""What the runs are called in which hosts try: their guests are clean."""
TIMEOUT = 60.0
"""Seconds in which all guests must have tried: the slowest is PowerShell's start."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What the guest of one host reached of another's, on the same network."""

    source: str
    """Label."""
    target: str
    """Label."""
    reached: str
    """How: TCP and a port, or ARP; "": it did not."""
    at: float
    """Seconds since the epoch."""


@dataclass(frozen=True)
class NetworkIsolation:
    """Whether the hosts of a network are isolated from each other."""

    network: str
    hosts: list[str]
    """Labels."""
    state: State
    why: str


def judge(network: str, hosts: Sequence[str], attempts: Iterable[Attempt]) -> NetworkIsolation:
    """Decide: isolated only if every host was tried from every other, and never reached.

    Args:
        network: its name.
        hosts: labels of those that are in it now.
        attempts: the last one of each pair; those with other hosts count for nothing.
    """
    tried = {(one.source, one.target): one for one in attempts if _between(one, hosts)}
    reached = [one for one in tried.values() if one.reached]
    if len(hosts) < 2:
        state, why = _alone(hosts)
    elif reached:
        last = max(reached, key=lambda one: one.at)
        state, why = "not isolated", f"{last.source} reached {last.target} by {last.reached}"
    elif missing := _missing(tried, hosts):
        pairs = len(hosts) * (len(hosts) - 1)
        done = f"{pairs - len(missing)} of {pairs} tries made" if tried else "nobody has tried"
        state, why = "not known", f"{done}; not from {missing[0][0]} to {missing[0][1]}"
    else:
        day = time.strftime("%Y-%m-%d", time.localtime(min(one.at for one in tried.values())))
        state, why = "isolated", f"no host has reached another since {day}"
    return NetworkIsolation(network, list(hosts), state, why)


def _alone(hosts: Sequence[str]) -> tuple[State, str]:
    return "isolated", f"{hosts[0]} is alone in it" if hosts else "no host is in it"


def _between(one: Attempt, hosts: Collection[str]) -> bool:
    return one.source in hosts and one.target in hosts


def _missing(tried: Collection[tuple[str, str]], hosts: Sequence[str]) -> list[tuple[str, str]]:
    pairs = ((one, two) for one in hosts for two in hosts if one != two)
    return [pair for pair in pairs if pair not in tried]

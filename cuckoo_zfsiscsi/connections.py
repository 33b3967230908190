"""TCP connections of this server: when they last brought anything, and an end to them."""

from __future__ import annotations

import contextlib
import errno
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

from cuckoo_zfsiscsi.deadline import Deadline

TIMEOUT = 5.0
"""Seconds for ss (iproute2)."""
_LINE = re.compile(r"^\S+\s+\S+\s+\S+\s+(?:\[::ffff:)?([0-9.]+)\]?:(\d+)\s(.*)$", re.M)
_FACT = re.compile(r"\b(bytes_received|lastrcv|lastack):(\d+)")


@dataclass(frozen=True, slots=True)
class Connection:
    """An established connection."""

    address: str
    """Of the other end, as is the port."""
    port: int
    received: int
    """Bytes."""
    silent: float
    """Seconds since the last of them; while there is none, since the connection's beginning."""
    quiet: float
    """Seconds since anything came: data, or an acknowledgment."""


def established(port: int, *, own: str = "", peer: str = "") -> Iterator[Connection]:
    """Return the connections to one of our ports; those of one address of ours, or of theirs.

    Raises:
        OSError: the kernel can't be asked, or does not answer.
    """
    wanted = f"sport = :{port}"
    wanted += f" and src {own}" if own else ""
    wanted += f" and dst {peer}" if peer else ""
    argv = ["ss", "-HtinO", "state", "established", wanted]
    for address, number, facts in _LINE.findall(_ask(argv)):
        found = {name: int(value) for name, value in _FACT.findall(facts)}
        # What is 0 is left out by ss: that is something which came this very millisecond
        data, acknowledged = (found.get(name, 0) / 1000 for name in ("lastrcv", "lastack"))
        yield Connection(
            address, int(number), found.get("bytes_received", 0), data, min(data, acknowledged)
        )


def listeners(own: str, port: int) -> set[int]:
    """Return the user ids of who listens on one of our addresses and ports; root's is left out.

    Raises:
        OSError: the kernel can't be asked, or does not answer.
    """
    argv = ["ss", "-HltneO", f"src {own} and sport = :{port}"]
    return {int(user) for user in re.findall(r"\buid:(\d+)", _ask(argv))}


def _ask(argv: list[str]) -> str:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    except subprocess.TimeoutExpired:
        raise TimeoutError(errno.ETIMEDOUT, f"ss does not answer within {TIMEOUT:.0f} s") from None
    if done.returncode:
        raise OSError(done.returncode, f"ss: {done.stderr.strip()[:100]}")
    return done.stdout


def cut(which: str, deadline: Deadline) -> None:
    """Let the kernel close connections (CONFIG_INET_DIAG_DESTROY): the other end may be off.

    Whether it did is for the caller to see.

    Args:
        which: a filter of ss.
        deadline: for it.
    """
    argv = ["ss", "-K", "-H", "-n", "-t", which]
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run(argv, check=False, capture_output=True, timeout=deadline.remaining)

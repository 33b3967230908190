"""Who is logged in to a host's target, and who is only connected to its portal.

The kernel counts the sessions of a target, and shows the last one of an initiator alone. But each
session has one connection, and the portal is the host's own: so the kernel's table of connections
has all of them, and those who do not log in.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Collection, Mapping
from ipaddress import IPv4Address
from itertools import count
from pathlib import Path
from threading import Lock

from cuckoo_zfsiscsi import connections
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.target import Session
from cuckoo_zfsiscsi.disk.target.lio_kernel import entries, get

TCP = Path("/proc/net/tcp")
_ALIVE = {"01", "03", "08"}
"""ESTABLISHED, SYN_RECV, CLOSE_WAIT: include/net/tcp_states.h."""
_SESSION = re.compile(
    r"^LIO Session ID: (\d+) .*\nSession State: TARG_SESS_STATE_LOGGED_IN\n"
    r"(?:.*\n)*?   Address (\S+) ",
    re.M,
)
"""lio_target_nacl_info_show(). An alias that the guest chose comes before: the last one counts."""

HEADER = 48
"""Bytes with which every request begins (RFC 7143 11.2.1)."""
_MOST_ENDS = 64
"""That one call of ss is told of: the kernel takes filters of limited length."""

End = tuple[str, int]
"""Address and TCP port of one end of a connection."""


def read_session(initiator: str, info: str) -> Session | None:
    """Read an ACL's info; None if nobody is logged in.

    The kernel shows one session of an initiator, the last that logged in.
    """
    found = _SESSION.findall(info)
    if not found:
        return None
    number, address = found[-1]
    return Session(initiator, address, int(number))


def last_sessions(target: Path) -> list[Session]:
    """Return who is logged in to a target, the last session of each initiator; nobody if gone."""
    found = []
    for group in entries(target, "tpgt_"):
        for acl in entries(group / "acls"):
            with contextlib.suppress(OSError):  # removed meanwhile
                if session := read_session(acl.name, (acl / "info").read_text()):
                    found.append(session)
    return found


def count_sessions(target: Path) -> int:
    """Return how many sessions a target has, those included whose connection has just ended."""
    return int(get(target / "fabric_statistics/iscsi_instance/sessions") or 0)


def connected(table: Path = TCP) -> dict[End, set[End]]:
    """Return the other ends of all connections of this server, by our own end."""
    found: dict[End, set[End]] = {}
    for line in table.read_text("ascii").splitlines()[1:]:
        words = line.split()
        if words[3] in _ALIVE:
            found.setdefault(_end(words[1]), set()).add(_end(words[2]))
    return found


def _end(shown: str) -> End:
    address, _, port = shown.partition(":")
    return str(IPv4Address(int(address, 16).to_bytes(4, "little"))), int(port, 16)


def cut(portal: End, which: Collection[End] | None, deadline: Deadline) -> None:
    """Let the kernel close connections to a portal, all at once.

    Args:
        portal: ours. It goes on listening: ss means connections only, if it is not told otherwise.
        which: their other ends; None for all.
        deadline: for it.
    """
    here = f"src {portal[0]} and sport = :{portal[1]}"
    if which is None:
        return connections.cut(here, deadline)
    ends = [f"( dst {address} and dport = :{port} )" for address, port in sorted(which)]
    for first in range(0, len(ends), _MOST_ENDS):
        some = " or ".join(ends[first : first + _MOST_ENDS])
        connections.cut(f"{here} and ( {some} )", deadline)
    return None


class Logins:
    """The connections to one host's portal, and which of them are sessions. Safe between threads.

    Args:
        portal: of the host alone.
    """

    def __init__(self, portal: End) -> None:
        self.portal = portal
        self._lock = Lock()
        self._since: dict[End, float] = {}
        self._numbers: dict[End, int] = {}
        self._made_up = count(-1, -1)
        self._next: End | None = None
        """Whose turn it is to log in, of those who did not; and since when."""
        self._turn = 0.0

    def see(self, there: Collection[End], now: float | None = None) -> None:
        """Take what connections there are now; call it often: a session is as old as it was seen.

        Args:
            there: their other ends.
            now: monotonic seconds.
        """
        now = time.monotonic() if now is None else now
        with self._lock:
            self._since = {end: self._since.get(end, now) for end in there}
            self._numbers = {end: self._numbers[end] for end in there if end in self._numbers}

    def inside(self, sessions: int) -> list[End]:
        """Return the connections that are logged in, the oldest first.

        The kernel lets in one after the other, in the order in which they came: nobody is logged
        in who came after one that is not. Of those that were first seen together, the ones that
        have said more are.

        Args:
            sessions: how many there are.

        Raises:
            OSError: the kernel can't be asked who said what.
        """
        with self._lock:
            since = dict(self._since)
        return _in_order(since, self._said() if 0 < sessions < len(since) else {})[:sessions]

    def late(self, sessions: int, patience: float, now: float | None = None) -> set[End]:
        """Return the connections that could have logged in by now, and did not.

        Who has sent a whole request waits for his turn, and has his time from then on.

        Args:
            sessions: how many there are.
            patience: seconds for it.
            now: monotonic seconds.

        Raises:
            OSError: as inside().
        """
        now = time.monotonic() if now is None else now
        with self._lock:
            since = dict(self._since)
        outside = _in_order(since, {})[sessions:]
        if not any(end == self._next for end in outside):
            self._next, self._turn = outside[0] if outside else None, now
        old = {end for end in since if now - since[end] >= patience}
        if not outside or not old:
            return set()
        said = self._said()
        outside = _in_order(since, said)[sessions:]
        late = {end for end in outside if said.get(end, 0) < HEADER} & old
        waiting = [end for end in outside if said.get(end, 0) >= HEADER][:1]
        if any(since[silent] <= since[first] for silent in late for first in waiting):
            self._next = None  # its turn begins now
        elif now - self._turn >= patience:
            late.update(waiting)
            self._next = None
        return late

    def sessions(self, last: Session, sessions: int) -> list[Session]:
        """Return every session of an initiator, the oldest first.

        Each keeps its number: one that was never seen as the last has one that is made up, below 0.

        Args:
            last: the last one, as the kernel shows it.
            sessions: how many there are.

        Raises:
            OSError: as inside().
        """
        inside = self.inside(sessions)
        with self._lock:
            new = [end for end in inside if end not in self._numbers]
            its = [end for end in new if end[0] == last.address][-1:]
            if last.number not in self._numbers.values():
                self._numbers |= dict.fromkeys(its, last.number)
            for end in new:
                if end not in self._numbers:
                    self._numbers[end] = next(self._made_up)
            found = [Session(last.initiator, end[0], self._numbers[end]) for end in inside]
        return found or [last]

    def _said(self) -> dict[End, int]:
        """Return how many bytes came, by connection."""
        address, port = self.portal
        found = connections.established(port, own=address)
        return {(one.address, one.port): one.received for one in found}


def _in_order(since: Mapping[End, float], said: Mapping[End, int]) -> list[End]:
    return sorted(since, key=lambda end: (since[end], -said.get(end, 0)))

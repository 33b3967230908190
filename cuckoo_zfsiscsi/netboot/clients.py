"""Who may use the boot listener, and how much of it: no host can use up another's share.

A stranger gets nothing, not even a look at what it sends. A host that has its share of connections
loses its oldest for a new one: whatever its guest has left open, its firmware gets through.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from cuckoo_zfsiscsi.clock import SYSTEM, Clock
from cuckoo_zfsiscsi.ratelimit import RateLimiter

AT_ONCE = 8
"""Connections that a host may have at a time."""
CONNECTIONS = 10.0, 100
"""Connections a second that a host may begin in the long run, and at once. A boot needs one or two;
one that installs Windows, ten."""
REQUESTS = 10.0, 100
"""Requests a second that are looked at, and at once."""


class Connection(Protocol):
    """What is counted."""

    def abort(self) -> None:
        """End it, at once."""
        ...


class Clients:
    """Counts what each of them has. For one thread, that of the listener.

    Args:
        knows: whether an address is that of a host whose network has that address of the server.
        clock: that time passes by.
    """

    def __init__(self, knows: Callable[[str, str], bool], clock: Clock = SYSTEM) -> None:
        self._knows = knows
        self._open: dict[str, list[Connection]] = {}
        self._connections = RateLimiter(*CONNECTIONS, clock)
        self._requests = RateLimiter(*REQUESTS, clock)

    def refuse(self, connection: Connection, source: str, asked: str) -> str:
        """Return why a connection may not be; "" if it may: then leave() must be told of its end.

        Args:
            connection: that has just been accepted.
            source: IP address that it comes from.
            asked: the server's address that it came to.
        """
        if not self._knows(source, asked):
            return "no host of that network has this address"
        if not self._connections.allow(source):
            return "it connects too often"
        mine = self._open.setdefault(source, [])
        mine.append(connection)
        if len(mine) > AT_ONCE:
            mine.pop(0).abort()
        return ""

    def leave(self, connection: Connection, source: str) -> None:
        """Forget a connection that has ended."""
        mine = self._open.get(source, [])
        if connection in mine:  # and was not ended by refuse()
            mine.remove(connection)
        if not mine:
            self._open.pop(source, None)

    def may_ask(self, source: str) -> bool:
        """Whether one more request of an address is looked at now."""
        return self._requests.allow(source)

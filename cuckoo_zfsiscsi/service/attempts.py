"""Tokens that are wrong: each address that gives some waits longer and longer for its answer.

The right one is never kept waiting, wherever it comes from: CAPE may share its address with whoever
guesses. So this is no lock; it makes guesses few and seen. What keeps them hopeless is the token.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from dataclasses import dataclass

from cuckoo_zfsiscsi.clock import SYSTEM, Clock

FIRST, LONGEST = 0.1, 5.0
"""Seconds that the answer to the first wrong token takes; twice as long for each more, up to this:
whoever has a wrong one by mistake is to hear of it before his own patience ends."""
FORGET = 600.0
"""Seconds without a wrong token after which an address begins anew."""
PERIOD = 60.0
"""Seconds between two lines in the log about one address."""
MOST = 1000
"""Addresses that are remembered: those that gave one last."""
WAITING = 8
"""Answers to one address that are held back at a time; to more tokens it is told no at once."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Address:
    wrong: int = 0
    last: float = 0.0
    waiting: int = 0
    unsaid: int = 0
    said: float = float("-inf")


class Attempts:
    """Counts wrong tokens. Safe from any thread.

    Args:
        clock: that periods go by.
        first: seconds, instead of FIRST.
    """

    def __init__(self, clock: Clock = SYSTEM, first: float = FIRST) -> None:
        self._clock = clock
        self._first = first
        self._lock = threading.Lock()
        self._addresses: dict[str, _Address] = {}

    async def punish(self, address: str, where: str) -> bool:
        """Count a wrong token, and return when the answer may be given.

        Args:
            address: that it came from.
            where: it was given, for the log.

        Returns:
            Whether the answer is the usual one; False: there were too many at a time.
        """
        pause = self.count(address, where)
        if pause is None:
            return False
        try:
            await asyncio.sleep(pause)
        finally:
            self.answered(address)
        return True

    def count(self, address: str, where: str) -> float | None:
        """Count a wrong token; return the seconds to its answer, None if too many wait for one."""
        now = self._clock.monotonic()
        with self._lock:
            found = self._addresses.pop(address, None) or _Address()
            if now > found.last + FORGET:
                found.wrong = 0
            self._addresses[address] = found  # the last
            while len(self._addresses) > MOST:
                del self._addresses[next(iter(self._addresses))]
            found.wrong += 1
            found.unsaid += 1
            found.last = now
            number = 0
            if now >= found.said + PERIOD:
                number, found.unsaid, found.said = found.unsaid, 0, now
            pause = min(LONGEST, self._first * 2 ** min(found.wrong - 1, 20))
            is_held = found.waiting < WAITING
            found.waiting += is_held
        if number:
            since = "" if number == 1 else f": {number} since the last line about it"
            log.warning("%s gives a wrong token to the %s%s", address or "a socket", where, since)
        return pause if is_held else None

    def answered(self, address: str) -> None:
        """Note that an answer is held back no more."""
        with self._lock:
            if found := self._addresses.get(address):
                found.waiting = max(0, found.waiting - 1)

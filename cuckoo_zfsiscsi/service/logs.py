"""The service's log: one line for each entry, and no more of them than the journal keeps.

Guests make lines: of DHCP, of TFTP, of what they ask the boot listener for. journald(8) drops all
that a unit says beyond 10,000 lines in 30 s (RateLimitBurst=, journald.conf(5)), errors and all. So
we drop first, and what matters least: each level has its share, errors have one for each place
that they come from, and the audit log is never cut. The shares together are below the journal's.
"""

from __future__ import annotations

import logging
import sys
import threading
from dataclasses import dataclass
from typing import TextIO

from cuckoo_zfsiscsi.clock import SYSTEM, Clock
from cuckoo_zfsiscsi.ratelimit import RateLimiter
from cuckoo_zfsiscsi.service import audit
from cuckoo_zfsiscsi.text import shown

PERIOD = 60.0
"""Seconds between two lines that say how many were left out."""
FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
MARGIN = "    | "
"""Before each line of a traceback: what an exception quotes can't look like an entry."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Share:
    """Lines that a level has."""

    burst: float
    """At once."""
    rate: float
    """A second, after that."""


SHARES = {
    logging.ERROR: Share(300, 5.0),
    logging.WARNING: Share(500, 20.0),
    logging.NOTSET: Share(3000, 100.0),
}
"""For this level and above. That of errors is for each place in our code: so what a guest breaks in
one hides no error of another."""
TRACEBACK = 30.0
"""Lines that one is counted as."""


class Formatter(logging.Formatter):
    """An entry is one line, whatever it quotes; a traceback stands below it, behind a margin."""

    def __init__(self) -> None:
        super().__init__(FORMAT)

    def format(self, record: logging.LogRecord) -> str:
        """Return the entry. What another handler's formatter has left in the record is not used."""
        record.message, record.asctime = record.getMessage(), self.formatTime(record)
        entry = [shown(self.formatMessage(record).rstrip("\n"))]
        if record.exc_info:
            entry.append(_below(self.formatException(record.exc_info)))
        if record.stack_info:
            entry.append(_below(record.stack_info))
        return "\n".join(entry)


def _below(text: str) -> str:
    return "\n".join(f"{MARGIN}{shown(line)}" for line in text.split("\n"))


class Limit(logging.Filter):
    """Lets through so many lines of each level, counts the others, and says how many they were.

    Safe from any thread.

    Args:
        clock: that the shares grow by.
    """

    def __init__(self, clock: Clock = SYSTEM) -> None:
        super().__init__()
        self._clock = clock
        self._lock = threading.Lock()
        self._shares = {
            level: RateLimiter(share.rate, share.burst, clock) for level, share in SHARES.items()
        }
        self._left_out: dict[str, int] = {}
        self._told = float("-inf")

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether a line may pass."""
        if record.name in (__name__, audit.NAME):
            return True
        passes = self._may_pass(record)
        if not passes:
            with self._lock:
                name = record.levelname
                self._left_out[name] = self._left_out.get(name, 0) + 1
        self.tell()
        return passes

    def tell(self) -> None:
        """Say how many lines were left out, if that is due."""
        now = self._clock.monotonic()
        with self._lock:
            if not self._left_out or now < self._told + PERIOD:
                return
            self._told = now
            left_out, self._left_out = self._left_out, {}
        many = ", ".join(f"{number} of level {level}" for level, number in left_out.items())
        log.warning("too many lines: %s were left out of this log", many)

    def _may_pass(self, record: logging.LogRecord) -> bool:
        level = next(least for least in SHARES if record.levelno >= least)
        place = f"{record.pathname}:{record.lineno}" if level == logging.ERROR else ""
        return self._shares[level].allow(place, TRACEBACK if record.exc_info else 1.0)


def set_up(*, verbose: bool, stream: TextIO | None = None, clock: Clock = SYSTEM) -> Limit:
    """Have everything that is logged written to stderr, which systemd gives to the journal.

    Args:
        verbose: also what is for whoever looks for a mistake in the service.
        stream: instead of stderr.
        clock: that the limit goes by.

    Returns:
        The limit, whose tell() is to be called now and then.
    """
    limit = Limit(clock)
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(Formatter())
    handler.addFilter(limit)
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.DEBUG if verbose else logging.INFO)
    return limit

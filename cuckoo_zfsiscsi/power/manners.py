"""Manners towards one power device: its turn, pace and peace, and what is worth asking again."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import (
    DeadlineExceededError,
    PowerError,
    TransientPowerError,
    ZfsIscsiError,
)
from cuckoo_zfsiscsi.power.limit import Limiter

BACK_OFF = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Seconds of pause after the first, second, ... transient failure in a row; the last stays."""

MOST = 160
"""Letters of a library's own error that are told."""

log = logging.getLogger(__name__)
T = TypeVar("T")


class Manners:
    """How one host asks one device.

    Args:
        peer: name of the device, for messages.
        limiter: of the device, shared with whoever else asks it.
        interval: least seconds between two commands to it.
        hurried: there is another way: give up at once while the device is left in peace.
    """

    def __init__(self, peer: str, limiter: Limiter, interval: float, *, hurried: bool) -> None:
        self._peer = peer
        self._limiter = limiter
        self._interval = interval
        self._hurried = hurried

    def patient(self) -> Manners:
        """Return the same, for who has no other way."""
        return Manners(self._peer, self._limiter, self._interval, hurried=False)

    def ask(self, command: Callable[[], T], what: str, deadline: Deadline) -> T:
        """Run one command in its turn, again as long as it fails in a transient way.

        Args:
            command: asks once.
            what: it asks for, like "status".
            deadline: for all of it.

        Raises:
            PowerError: the device says no, or nothing, or is left in peace.
            DeadlineExceededError, CancelledError: it was not our turn, or had no answer.
        """
        what = f"{self._peer}: power {what}"
        breaker = self._limiter.breaker
        clock, failures = deadline.clock, 0
        begin = clock.monotonic()
        last: TransientPowerError | None = None
        try:
            while True:
                with self._limiter.turn(self._interval, deadline=deadline, what=what):
                    if not (peace := breaker.wait(clock.monotonic())):
                        try:
                            result = self._counted(command, what)
                        except TransientPowerError as error:
                            last = error
                            breaker.failed(error.what, clock.monotonic())
                        except DeadlineExceededError as error:
                            breaker.failed(error.what, clock.monotonic())
                            raise DeadlineExceededError(
                                f"{what}: no answer, it took longer than {deadline.seconds:.1f} s",
                                fix="ping it; reset the BMC; raise power_timeout if it is slow",
                            ) from None
                        else:
                            breaker.succeeded()
                            return result
                if peace and last and (self._hurried or peace >= deadline.remaining):
                    raise _asked(last, failures, clock.monotonic() - begin)
                if peace:
                    self._wait_in_peace(peace, what, deadline)
                    continue
                failures += 1
                log.warning("%s", last)
                deadline.sleep(BACK_OFF[min(failures, len(BACK_OFF)) - 1], what)
        except DeadlineExceededError:
            if last is None:
                raise
            raise _asked(last, failures, clock.monotonic() - begin) from None

    def _counted(self, command: Callable[[], T], what: str) -> T:
        """Run it once. Whatever a driver raises leaves it as an error that all others know of.

        A device's answer is parsed by libraries: one that is nested deeply enough, or long enough,
        ends them with RecursionError or MemoryError, and one of them may call sys.exit().
        """
        try:
            return command()
        except (PowerError, DeadlineExceededError):
            self._limiter.errors += 1
            raise
        except ZfsIscsiError:
            raise
        except (Exception, SystemExit) as error:
            self._limiter.errors += 1
            log.debug("%s", what, exc_info=True)
            raise PowerError(
                f"{what}: the driver failed: {type(error).__name__}: {str(error)[:MOST]}",
                fix="is that device what its URL says? update its firmware, or use another driver",
            ) from None

    def _wait_in_peace(self, peace: float, what: str, deadline: Deadline) -> None:
        breaker = self._limiter.breaker
        if self._hurried or peace >= deadline.remaining:
            raise PowerError(
                f"{what}: not asked: it failed {breaker.failures} times in a row, and is left in "
                f"peace for another {peace:.0f} s; the last time: {breaker.last}",
                fix="look at the device; it is asked again by itself",
            )
        deadline.sleep(peace, what)


def _asked(last: TransientPowerError, failures: int, seconds: float) -> PowerError:
    times = f"{failures} times" if failures > 1 else "once"
    return PowerError(f"{last.what}, asked {times} in {seconds:.1f} s", fix=last.fix)

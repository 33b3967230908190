"""A host that is up asks for its script once more: that is its own reboot, or someone else.

While anything comes over the session that its boot is known by, or its kernel answers on it,
whoever asks is someone else, and gets nothing. That a session was ended shows nothing: who has the
card and the address of a host can end it (RST). But a machine that starts anew is silent for a
while, and one that runs answers, or logs in anew. What can't be found out is someone else. A host
that does nothing at all, and whose answers someone keeps from us who has taken its card's address,
can't be told from one that is rebooted.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial

from cuckoo_zfsiscsi.config import HostConfig
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import BootRefusedError
from cuckoo_zfsiscsi.service.life import session_goes_on, sign_of_life
from cuckoo_zfsiscsi.service.parts import Parts

log = logging.getLogger(__name__)

IsHeld = Callable[[Deadline, float], bool]
"""As Boot.is_held()."""

QUIET = 10.0
"""Seconds of silence after which a system counts as gone: a machine that starts anew is silent for
longer, and a system that runs, for less."""
LOOK = 2 * QUIET
"""Seconds in which it must be found out."""
AGAIN = 0.5
"""Seconds between two looks for a system whose session was ended."""


class Reboots:
    """Answers such requests. Safe from any thread.

    Args:
        config: of the host.
        parts: of it.
        script: of the disk that it runs from.
        is_held: Boot.is_held().
    """

    def __init__(self, config: HostConfig, parts: Parts, script: str, is_held: IsHeld) -> None:
        self._config, self._parts = config, parts
        self._script, self._is_held = script, is_held
        self._lock = threading.Lock()
        self._waiting: list[Future[str]] = []
        self.in_run = False
        """A run has the host: its reboots are the run's, and keep the disk."""
        self.rebooted = False
        """Without a run it asked, or someone did, when its session was gone."""
        self.strangers = 0
        """Requests that were someone else's."""
        self.others = ""
        """Who else was on in its network at the first of them; "" if nobody is known."""

    def ask(self) -> Future[str]:
        """Take a request. Does not wait: the answer may; it fails with BootRefusedError."""
        asked: Future[str] = Future()
        with self._lock:
            self._waiting.append(asked)
            if len(self._waiting) > 1:  # the look under way is about all of them
                return asked
        answer = partial(self._answer, self.in_run)  # as it is now, not when the look is over
        self._parts.clock.thread(answer, f"reboot-{self._config.label}").start()
        return asked

    def _answer(self, in_run: bool) -> None:
        refused = self._why_not(in_run)
        with self._lock:
            # From here on they can't be cancelled: who did that has not got it
            asks = [ask for ask in self._waiting if ask.set_running_or_notify_cancel()]
            self._waiting = []
        for ask in asks:
            if refused:
                ask.set_exception(BootRefusedError(refused))
            else:
                ask.set_result(self._script)

    def _why_not(self, in_run: bool) -> str:
        label = self._config.label
        if alive := self._lives(in_run=in_run):
            if not self.strangers:
                self.others = self._parts.others()
                log.warning("someone else asks for the boot script of %s, which %s", label, alive)
            self.strangers += 1
            return f"{label} runs, {alive}: someone else asks in its name"
        if not in_run:
            self.rebooted = True
            return f"{label} stands by: it is booted anew from a clean disk instead"
        log.info("%s is rebooted in its run", label)
        return ""

    def _lives(self, *, in_run: bool) -> str:
        """Return what shows that the host's system still runs; "" if it does not.

        Args:
            in_run: nothing may show it for QUIET, whatever has become of its session.
        """
        clock = self._parts.clock
        end, deadline = clock.monotonic() + QUIET, Deadline(LOOK, clock=clock)
        sign = session_goes_on(partial(self._is_held, deadline, QUIET))
        while in_run and not sign and clock.monotonic() < end:
            clock.sleep(AGAIN)
            deadline = Deadline(LOOK, clock=clock)
            sign = sign_of_life(self._parts, partial(self._is_held, deadline, 0.0), deadline)
        return sign

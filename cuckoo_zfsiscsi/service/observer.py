"""Looks at a host while a run has it, now and then and once more at the end.

It changes nothing, and nothing waits for it but the cut at the run's end, for a moment: the cut
destroys what there is to see.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from ipaddress import IPv4Address

from cuckoo_zfsiscsi.config import HostConfig
from cuckoo_zfsiscsi.deadline import Cancel, Deadline
from cuckoo_zfsiscsi.errors import CancelledError, DeadlineExceededError, ZfsIscsiError
from cuckoo_zfsiscsi.power import PowerState
from cuckoo_zfsiscsi.readiness import Answer
from cuckoo_zfsiscsi.readiness.session import is_held
from cuckoo_zfsiscsi.service.boot import ECHO, Boot
from cuckoo_zfsiscsi.service.parts import Parts
from cuckoo_zfsiscsi.service.seen import Seen, explain

log = logging.getLogger(__name__)

LOOK_EVERY = 10.0
"""Seconds between two looks."""
PATIENCE = 5.0
"""Seconds that a guest may take to answer in one look."""
AGAIN = 0.5
"""Seconds after which one that can't be reached is asked again in the same look."""
LAST_PATIENCE = 1.5
"""Seconds that it may take in the last look."""
LAST_LOOK = 3.0
"""Seconds for all of that one: the cut waits for it."""
HELD = 1.0
"""Seconds in which the kernel of a host that lives answers on its session."""


class Observer:
    """Watches one run, in a thread of its own. Safe from any thread.

    Args:
        config: of the host.
        parts: of it. The last of its probes is asked: the agent, if that must be ready.
        boot: returns the boot whose session the run's host should have.
    """

    def __init__(self, config: HostConfig, parts: Parts, boot: Callable[[], Boot | None]) -> None:
        self._config = config
        self._parts = parts
        self._boot = boot
        self._clock = parts.clock
        stage, self._probe = list(parts.probes.items())[-1]
        self._seen = Seen({"rpc": "RPC service"}.get(stage, stage))
        self._began = self._booted = self._clock.monotonic()
        self._asked_for: set[str] = set()
        """What was missing when the power device was asked: it is asked once for each."""
        self._over = Cancel(self._clock)
        self._looks_again = False
        self._done = self._clock.condition()
        self._is_done = False
        self._lock = threading.Lock()

    def begin(self) -> None:
        """Begin to watch: the host is ready."""
        self._clock.thread(self._watch, f"run-{self._config.label}").start()

    def note_boot(self, at: float) -> None:
        """Note that the host got a boot script (monotonic seconds)."""
        with self._lock:
            if not self._over and at > self._booted + ECHO:
                self._booted = at
                self._seen.boots += 1

    def end(self, *, look: bool, why: str = "") -> None:
        """End the watch. Does not wait.

        Args:
            look: look once more, as power is still on.
            why: the service gave the host up; else empty.
        """
        self._looks_again, self._seen.given_up = look, why
        self._over.set("the run is over")

    @property
    def is_over(self) -> bool:
        """Whether the run has ended."""
        return bool(self._over)

    def result(self) -> list[str]:
        """Return what may explain an empty report. Waits for the last look, for a moment."""
        with self._done:
            self._done.wait_for(lambda: self._is_done, LAST_LOOK)
        return explain(self._seen)

    def _watch(self) -> None:
        try:
            while not self._over.wait(self._parts.pace.pause(LOOK_EVERY)):
                seconds = PATIENCE + HELD + self._config.power_timeout
                self._look(Deadline(seconds, self._over), PATIENCE)
            if self._looks_again:
                self._look(Deadline(LAST_LOOK, clock=self._clock), LAST_PATIENCE)
        except Exception:  # whatever it is, the run has nothing to do with it
            log.exception("%s can't be watched", self._config.label)
        finally:
            with self._done:
                self._is_done = True
                self._done.notify_all()

    def _look(self, deadline: Deadline, patience: float) -> None:
        """Take one look; one that the run's end cuts short counts for nothing.

        Args:
            deadline: for the look.
            patience: seconds that the guest may take.
        """
        boot = self._boot()
        try:
            has_session = self._has_session(boot)
            answer, refused = self._ask(deadline.within(patience))
            if has_session and not answer.heard:
                has_session = self._holds_session(boot, deadline.within(HELD))
        except CancelledError:
            return
        seen, at = self._seen, self._clock.monotonic() - self._began
        if has_session is not None:
            seen.session.look(has_session, at)
        if has_session is False:
            seen.target_ended = self._parts.target.ended(self._config.label)
        seen.answer.look(answer.heard, at)
        seen.why, seen.refused = answer.detail, refused
        missing = {"session"} if has_session is False else set()
        if not answer.heard:
            missing.add("answer")
        if not missing:
            seen.is_off = False
        elif missing - self._asked_for:
            self._asked_for |= missing
            self._ask_power(deadline)

    def _has_session(self, boot: Boot | None) -> bool | None:
        """Tell whether the target has one of this boot; None: it does not say."""
        try:
            return boot.has_session() if boot else None
        except ZfsIscsiError:
            return None

    def _holds_session(self, boot: Boot | None, deadline: Deadline) -> bool | None:
        """Tell whether the host still is at its end of the session; None: that is not known.

        A target does not notice at once that a host is gone which did not say so.

        Raises:
            CancelledError: the run is over.
        """
        export = boot.export if boot else None
        if export is None:  # pragma: no cover - what has a session was exported
            return None
        portal = IPv4Address(export.portal)
        try:
            return is_held(portal, export.port, self._config.ip, quiet=0.0, deadline=deadline)
        except (OSError, DeadlineExceededError):
            return None

    def _ask(self, deadline: Deadline) -> tuple[Answer, bool]:
        """Ask the guest until it answers or the time is up.

        Returns:
            Its last answer, and whether it refused all the time, rather than took its time.

        Raises:
            CancelledError: the run is over.
        """
        while True:
            answer = self._probe(deadline)
            refused = not answer.heard and deadline.remaining > 0
            if not refused:
                return answer, False
            try:
                deadline.sleep(AGAIN, "the guest's answer")
            except DeadlineExceededError:
                return answer, True

    def _ask_power(self, deadline: Deadline) -> None:
        """Ask the power device, which is asked for nothing else while a run goes on."""
        try:
            state = self._parts.power.status(deadline=deadline)
        except ZfsIscsiError as error:  # the cut that follows says it too
            log.info("%s: its power state is not known: %s", self._config.label, error)
            return
        self._seen.is_off = state is PowerState.OFF

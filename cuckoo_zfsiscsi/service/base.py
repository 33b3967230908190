"""The thread of a host, whatever resets it: takes step after step, and quarantines if one fails."""

from __future__ import annotations

import contextlib
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable

from cuckoo_zfsiscsi.config import HostConfig
from cuckoo_zfsiscsi.deadline import Cancel
from cuckoo_zfsiscsi.errors import CancelledError, NotOffError, QuarantinedError, ZfsIscsiError
from cuckoo_zfsiscsi.service.parts import Parts
from cuckoo_zfsiscsi.service.report import State
from cuckoo_zfsiscsi.service.wishes import Wishes

log = logging.getLogger(__name__)

RETRY_MOST = 600.0
"""Seconds between two attempts to heal a quarantined host; each pause is twice the last."""
AGAIN = 1.0
"""Seconds from a failure that nobody has foreseen to the next step."""

Act = tuple[str, Callable[[], None]]
"""One step: what it is called, and what does it."""


class BaseWorker(Wishes, ABC):
    """Carries out one step after the other.

    Args:
        config: of the host.
        parts: that it is made of.
        in_background: runs what nobody waits for.
        retry_first: seconds from the first failure to the attempt to heal.
    """

    def __init__(
        self,
        config: HostConfig,
        parts: Parts,
        in_background: Callable[[Callable[[], None]], None],
        retry_first: float,
    ) -> None:
        super().__init__(config, parts)
        self._in_background = in_background
        self._retry_at = 0.0
        self._retry_first = self._pause = retry_first
        self._worker = self._clock.thread(self._work, f"host-{config.label}")

    def open(self) -> None:
        """Begin. Nothing is known of the host."""
        self._worker.start()

    @property
    def may_be_on(self) -> bool:
        """Whether its power is not proved off."""
        return not self._is_off()

    # Called with the lock held.

    @abstractmethod
    def _next(self) -> Act | None:
        """Decide what to do. None: wait for a wish, or for time to pass."""

    @abstractmethod
    def _patience(self) -> float | None:
        """Return seconds after which time alone may bring something to do; None: never."""

    @abstractmethod
    def _is_off(self) -> bool:
        """Whether power is proved off, and only this service switches it."""

    @abstractmethod
    def _must_cut(self) -> bool:
        """Whether the failure of this step cuts power, if it is not off."""

    # The worker.

    def _work(self) -> None:
        """Go on until the service ends, whatever happens: nobody else cares for this host."""
        goes_on = True
        while goes_on:
            try:
                goes_on = self._take_step()
            except Exception as error:  # noqa: BLE001, PERF203 - see above
                self._survive(error)
                goes_on = not self._closing

    def _take_step(self) -> bool:
        """Take the next step, or wait for one. False: there will be none any more."""
        with self._wake:
            act = self._next()
            if act is None:
                if not self._closing:
                    self._wake.wait(self._patience())
                    return True
                return False
            self._step, self._cancel = act[0], Cancel(self._clock)
        try:
            act[1]()
        except CancelledError as error:
            self._give_up(error)
        except Exception as error:  # noqa: BLE001 - whatever it is, the host must end safe
            self._fail(error)
        self._step = ""
        return True

    def _survive(self, error: Exception) -> None:
        """Quarantine the host when _fail() itself has failed, or the choice of a step.

        Nothing in here may raise. The host counts as on: after the pause it is proved off, and
        reset, before anything else.
        """
        with contextlib.suppress(Exception):  # there may be no memory for a line
            log.exception("%s: %s failed", self.config.label, self._step or "deciding")
        with self._wake:
            self._reason = self._reason or f"it could not be made safe: {type(error).__name__}"
            self._overdue, cut = False, self._must_cut()
        with contextlib.suppress(Exception):
            self._steps.make_safe(cut=cut)
        with self._wake:
            self._set(State.UNKNOWN)
            self._step = ""
            self._retry_later()
            with contextlib.suppress(Exception):
                self._end_run(self._quarantined())
            with contextlib.suppress(Exception):
                self._answer_stops(is_off=False)
            self._wake.wait(AGAIN)  # should it be the choice of a step that fails

    def _retry_later(self) -> None:
        self._retry_at = self._clock.monotonic() + self._pause
        self._pause = min(2 * self._pause, RETRY_MOST)

    def _give_up(self, error: CancelledError) -> None:
        """Go on after a step that was not to be finished."""
        log.info("%s", error)

    def _fail(self, error: Exception) -> None:
        """Quarantine the host: fenced, and off as far as can be, and tried again later."""
        label, doing = self.config.label, self._step
        if isinstance(error, ZfsIscsiError):
            log.error("%s: %s failed: %s", label, doing, error)
        else:
            log.exception("%s: %s failed", label, doing)
            error = QuarantinedError(f"{doing} failed: {error!r}", fix="see the service's log")
        self._note("failure", f"{doing} failed: {error}", ok=False)
        with self._wake:
            self._reason, self._overdue = str(error), False
            was_off = self._is_off() and not isinstance(error, NotOffError)
            cut = self._must_cut() and not was_off
        is_off = self._steps.make_safe(cut=cut) or was_off
        with self._wake:
            self._set(State.DIRTY if is_off else State.UNKNOWN)
            self._retry_later()
            self._end_run(error)
        self._conclude()
        with self._wake:
            self._answer_stops(is_off=is_off)

    def _conclude(self) -> None:
        """Put on record what was seen in a run that has just ended: power is still on, if it was.

        The run is over before: nobody else ends it meanwhile, and none begins but by this thread.
        """
        observer = self._observer
        if observer is None or not observer.is_over:
            return
        seen = observer.result()
        with self._wake:
            self._observer, self._seen = None, seen
        for what in seen:
            log.warning("%s, in its last run: %s", self.config.label, what)
        self._steps.parts.runs.tell(self.config.label, seen)

    def _heal(self) -> None:
        """Leave quarantine."""
        log.info("%s is healed", self.config.label)
        with self._wake:
            self._reason, self._pause = "", self._retry_first
        self._note("healed", "it has left quarantine", ok=True)

    def _tidy(self) -> None:
        """Do what can wait. If it can't be done, that is a warning."""
        try:
            self._steps.tidy(self._closing)
        except CancelledError:
            pass
        except ZfsIscsiError as error:
            log.warning("%s: %s", self.config.label, error)
            self._warning = str(error)
        else:
            self._warning = ""

"""The worker of one host: does what plan.py decides, and quarantines the host when it fails."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

from cuckoo_zfsiscsi.config import HostConfig
from cuckoo_zfsiscsi.deadline import Cancel
from cuckoo_zfsiscsi.errors import CancelledError, QuarantinedError, ZfsIscsiError
from cuckoo_zfsiscsi.service.boot import Parts
from cuckoo_zfsiscsi.service.plan import DURING, OFF, Facts, Step, next_step
from cuckoo_zfsiscsi.service.report import Run, State
from cuckoo_zfsiscsi.service.steps import Steps

log = logging.getLogger(__name__)

RETRY_FIRST, RETRY_MOST = 30.0, 600.0
"""Seconds between two attempts to heal a quarantined host; each pause is twice the last."""
ALIVE_EVERY = 15.0
"""Seconds between two looks at a host that stands by."""
FRESH = 2.0
"""Seconds for which a host that has become ready needs no second look."""

Stopped = Future[None]
"""Done when power is proved off; fails with QuarantinedError when it could not be."""


class Worker:
    """Carries out one step after the other, as plan.py decides, in a thread of its own."""

    def __init__(
        self, config: HostConfig, parts: Parts, in_background: Callable[[Callable[[], None]], None]
    ) -> None:
        self.config = config
        self._steps = Steps(config, parts)
        self._in_background = in_background
        self._wake = threading.Condition(threading.RLock())
        self._state = State.UNKNOWN
        self._since = time.time()
        self._step: Step | None = None
        self._warning = ""
        self._cancel = Cancel()
        self._run: Run | None = None
        self._stops: list[tuple[float, Stopped]] = []
        self._cut_why = ""
        self._maintenance = False
        self._closing = Cancel()
        self._reason = ""
        self._retry_at = 0.0
        self._pause = RETRY_FIRST
        self._ready_at = 0.0
        self._look_at = 0.0
        self._do: dict[Step, Callable[[], None]] = {
            Step.CUT: self._cut,
            Step.RETIRE: self._retire,
            Step.RESET: self._reset,
            Step.START_UP: self._start_up,
            Step.HEAL: self._heal,
            Step.HAND_OVER: self._hand_over,
            Step.CHECK_ALIVE: self._check_alive,
        }
        self._worker = threading.Thread(target=self._work, name=f"host-{config.label}", daemon=True)

    # Called with the lock held.

    def _end_run(self, error: ZfsIscsiError) -> None:
        run, self._run = self._run, None
        if run and not run.booted.done():
            run.booted.set_exception(error)

    def _wish_cut(self, why: str) -> None:
        """Make a cut the next step, and end the step under way, unless that is a cut itself."""
        if self._state is not State.STOPPING:
            self._cut_why = why
            self._cancel.set(why)
        self._wake.notify()

    def _answer_stops(self, *, is_off: bool) -> None:
        for _, stopped in self._stops:
            if is_off:
                stopped.set_result(None)
            else:
                stopped.set_exception(self._quarantined())
        self._stops.clear()

    def _quarantined(self) -> QuarantinedError:
        label = self.config.label
        return QuarantinedError(
            f"{label} is quarantined: {self._reason}",
            fix=f"it heals by itself when the cause is gone; try now: zfsiscsi reset {label}",
        )

    def _set(self, state: State) -> None:
        if state is not self._state:
            log.info("%s: %s -> %s", self.config.label, self._state.value, state.value)
            self._state, self._since = state, time.time()

    @property
    def _wanted_image(self) -> str:
        run = self._run  # read once: a stop may end the run at any moment
        return run.image if run else self.config.snapshot

    def _facts(self) -> Facts:
        now = time.monotonic()
        has_disk = self._state in (State.CLEAN, State.READY)
        return Facts(
            state=self._state,
            cut_wanted=bool(self._cut_why),
            closing=bool(self._closing),
            quarantined=bool(self._reason),
            may_retry=now >= self._retry_at,
            maintenance=self._maintenance,
            prewarm=self.config.prewarm,
            run=self._run is not None,
            right_image=has_disk and self._steps.has_image(self._wanted_image),
            look_due=now >= self._look_at,
        )

    def _patience(self) -> float | None:
        """Seconds after which time alone may bring something to do; None: never."""
        if self._reason:
            return max(0.0, self._retry_at - time.monotonic())
        if self._state is State.READY:
            return max(0.0, self._look_at - time.monotonic())
        return None

    # The worker.

    def _work(self) -> None:
        while True:
            with self._wake:
                step = next_step(self._facts())
                if step is None:
                    if self._closing:
                        return
                    self._wake.wait(self._patience())
                    continue
                self._step = step
                self._cancel = Cancel()
                self._set(DURING.get(step, self._state))
            try:
                self._do[step]()
            except CancelledError as error:
                log.info("%s", error)
                if self._state is State.BOOTING:
                    self._set(State.UNKNOWN)
            except Exception as error:  # noqa: BLE001 - whatever it is, the host must end safe
                self._fail(error)
            self._step = None

    def _cut(self) -> None:
        with self._wake:
            self._cut_why = ""
            now = time.monotonic()
            seconds = min([self.config.power_timeout, *(by - now for by, _ in self._stops)])
        self._steps.cut(max(seconds, 0.1))
        with self._wake:
            self._set(State.DIRTY)
            self._answer_stops(is_off=True)

    def _reset(self) -> None:
        self._steps.reset(self._wanted_image, self._cancel)
        with self._wake:
            self._set(State.CLEAN)
            boots_next = next_step(self._facts()) is Step.START_UP
        if not boots_next:
            self._in_background(self._tidy)

    def _start_up(self) -> None:
        if not self._steps.is_off(self._cancel):
            log.warning("%s is on though nobody switched it on", self.config.label)
            self._set(State.UNKNOWN)
            return
        self._steps.start_up(self._cancel, prewarmed=self._run is None)
        with self._wake:
            self._set(State.READY)
            self._ready_at = time.monotonic()
            self._look_at = self._ready_at + ALIVE_EVERY
        self._in_background(self._tidy)

    def _hand_over(self) -> None:
        wrong = self._what_is_wrong() if time.monotonic() > self._ready_at + FRESH else ""
        with self._wake:
            run, report = self._run, self._steps.report
            if wrong:
                self._wish_cut(wrong)
            elif run and report and not self._cut_why:
                self._set(State.RUNNING)
                run.booted.set_result(report)

    def _check_alive(self) -> None:
        wrong = self._what_is_wrong()
        with self._wake:
            self._look_at = time.monotonic() + ALIVE_EVERY
            if wrong:
                self._wish_cut(wrong)

    def _what_is_wrong(self) -> str:
        wrong = self._steps.boot.alive() if self._steps.boot else "it was not booted"
        if wrong:
            log.warning("%s stood by, but %s: it is booted again", self.config.label, wrong)
        return wrong

    def _retire(self) -> None:
        self._steps.fence()
        with self._wake:
            self._reason = ""
            self._set(State.MAINTENANCE)

    def _heal(self) -> None:
        log.info("%s is healed", self.config.label)
        with self._wake:
            self._reason, self._pause = "", RETRY_FIRST

    def _fail(self, error: Exception) -> None:
        """Quarantine the host: fenced and off, as far as can be, and tried again later."""
        label, step = self.config.label, self._step
        doing = step.value if step else "?"
        if isinstance(error, ZfsIscsiError):
            log.error("%s: %s failed: %s", label, doing, error)
        else:
            log.exception("%s: %s failed", label, doing)
            error = QuarantinedError(f"{doing} failed: {error!r}", fix="see the service's log")
        with self._wake:
            self._reason = str(error)
            was_off = self._state in OFF
        is_off = self._steps.make_safe(cut=not was_off and step is not Step.CUT) or was_off
        with self._wake:
            self._set(State.DIRTY if is_off else State.UNKNOWN)
            self._retry_at = time.monotonic() + self._pause
            self._pause = min(2 * self._pause, RETRY_MOST)
            self._end_run(error)
            self._answer_stops(is_off=is_off)

    def _tidy(self) -> None:
        try:
            self._steps.tidy(self._closing)
        except CancelledError:
            pass
        except ZfsIscsiError as error:
            log.warning("%s: %s", self.config.label, error)
            self._warning = str(error)
        else:
            self._warning = ""

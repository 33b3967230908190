"""The worker of one host: does what plan.py decides."""

from __future__ import annotations

import logging
from collections.abc import Callable

from cuckoo_zfsiscsi.config import HostConfig
from cuckoo_zfsiscsi.disk.store import Disk
from cuckoo_zfsiscsi.errors import CancelledError, VoidBootError
from cuckoo_zfsiscsi.netboot.medium import Medium
from cuckoo_zfsiscsi.service.base import Act, BaseWorker
from cuckoo_zfsiscsi.service.parts import Parts
from cuckoo_zfsiscsi.service.plan import DURING, OFF, Facts, Step, next_step
from cuckoo_zfsiscsi.service.report import State

log = logging.getLogger(__name__)

RETRY_FIRST = 30.0
"""Seconds from a failure to the first attempt to heal a quarantined host."""
ALIVE_EVERY = 15.0
"""Seconds between two looks at a host that stands by."""
POWER_EVERY, POWER_FRESH = 60.0, 90.0
"""Seconds between two questions to the power device of a host that stands by (devices crash when
they are asked all day), and after which a run does not begin without another one."""
VOIDS = 3
"""Void boots in a row after which the host is quarantined."""
VOID_PAUSE = 2.0
"""Seconds from a void boot to the next, without whose disk is reset meanwhile; each is twice the
last. Whoever disturbs the boots of a host for a moment costs it no run."""
FRESH = 2.0
"""Seconds for which a host that has become ready needs no second look."""


class Worker(BaseWorker):
    """Carries out one step after the other, as plan.py decides."""

    def __init__(
        self, config: HostConfig, parts: Parts, in_background: Callable[[Callable[[], None]], None]
    ) -> None:
        super().__init__(config, parts, in_background, RETRY_FIRST)
        self._maintenance = False
        self._draft: Disk | None = None
        self._installer: str | Medium | None = None
        self._ready_at = 0.0
        self._look_at = 0.0
        self._stale_at = 0.0
        self._voids = 0
        self._boot_at = 0.0
        self._do: dict[Step, Callable[[], None]] = {
            Step.CUT: self._cut,
            Step.RETIRE: self._retire,
            Step.RESET: self._reset,
            Step.START_UP: self._start_up,
            Step.EDIT: self._edit,
            Step.HEAL: self._heal,
            Step.HAND_OVER: self._hand_over,
            Step.CHECK_ALIVE: self._check_alive,
        }

    # Called with the lock held.

    def _next(self) -> Act | None:
        step = next_step(self._facts())
        if step is None:
            return None
        self._set(DURING.get(step, self._state))
        return step.value, self._do[step]

    def _is_off(self) -> bool:
        return self._state in OFF

    def _must_cut(self) -> bool:
        return self._step != Step.CUT.value

    def _give_up(self, error: CancelledError) -> None:
        super()._give_up(error)
        if self._state is State.BOOTING:
            self._set(State.UNKNOWN)

    def _facts(self) -> Facts:
        now = self._clock.monotonic()
        has_disk = self._state in (State.CLEAN, State.READY)
        return Facts(
            state=self._state,
            cut_wanted=bool(self._cut_why),
            closing=bool(self._closing),
            quarantined=bool(self._reason),
            may_retry=now >= self._retry_at,
            maintenance=self._maintenance,
            draft=self._draft is not None,
            prewarm=self.config.prewarm,
            run=self._run is not None,
            right_image=has_disk and self._steps.has_image(self._wanted_image),
            look_due=now >= self._look_at,
            stale=now >= self._stale_at,
            may_boot=now >= self._boot_at,
        )

    def _patience(self) -> float | None:
        """Seconds after which time alone may bring something to do; None: never."""
        if self._reason:
            return max(0.0, self._retry_at - self._clock.monotonic())
        if self._state is State.READY:
            return max(0.0, min(self._look_at, self._stale_at) - self._clock.monotonic())
        if self._state is State.CLEAN and self._clock.monotonic() < self._boot_at:
            return self._boot_at - self._clock.monotonic()
        return None

    # The worker.

    def _cut(self) -> None:
        with self._wake:
            self._cut_why = ""
        self._conclude()
        self._steps.cut(self.config.power_timeout)
        with self._wake:
            self._is_cut(State.DIRTY)

    def _reset(self) -> None:
        self._steps.delete_flows()
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
        try:
            self._steps.check_silence()
        except VoidBootError as error:
            self._put_off(error)
            with self._wake:
                self._set(State.CLEAN)
            return
        try:
            self._steps.start_up(self._cancel, prewarmed=self._run is None)
        except VoidBootError as error:
            self._steps.fence()  # whoever has the disk, has it no longer
            self._put_off(error)
            self._steps.cut(self.config.power_timeout)
            with self._wake:
                self._set(State.DIRTY)
            return
        with self._wake:
            self._set(State.READY)
            self._voids = 0
            self._ready_at = self._clock.monotonic()
            self._look_at = self._ready_at + ALIVE_EVERY
            self._stale_at = self._ready_at + self.config.prewarm_max_age
        self._in_background(self._tidy)

    def _put_off(self, error: VoidBootError) -> None:
        """Boot again later, and later each time. Whoever waits for the host goes on waiting.

        Raises:
            VoidBootError: it is void too often to go on so: the host is quarantined.
        """
        self._voids += 1
        log.warning("%s", error)
        if self._reason or self._voids >= VOIDS:
            times = f" ({self._voids} times in a row)" if self._voids > 1 else ""
            raise VoidBootError(error.what + times, fix=error.fix)
        self._boot_at = self._clock.monotonic() + VOID_PAUSE * 2 ** (self._voids - 1)

    def _hand_over(self) -> None:
        boot = self._steps.boot
        is_sure = boot is not None and not boot.was_rebooted
        is_fresh = is_sure and self._clock.monotonic() <= self._ready_at + FRESH
        wrong = "" if is_fresh else self._what_is_wrong(POWER_FRESH)
        with self._wake:
            run, report = self._run, self._steps.report
            if wrong:
                self._wish_cut(wrong)
            elif run and report and not self._cut_why:
                self._hand_over_to(run, report)

    def _check_alive(self) -> None:
        wrong = self._what_is_wrong(POWER_EVERY)
        with self._wake:
            self._look_at = self._clock.monotonic() + ALIVE_EVERY
            if wrong:
                self._wish_cut(wrong)

    def _what_is_wrong(self, power_age: float) -> str:
        boot = self._steps.boot
        wrong = boot.alive(self._cancel, power_age=power_age) if boot else "it was not booted"
        if wrong:
            log.warning("%s stood by, but %s: it is booted again", self.config.label, wrong)
        return wrong

    def _retire(self) -> None:
        self._steps.delete_flows()  # a draft that it boots goes without a reset
        self._steps.retire()
        with self._wake:
            if self._reason:
                self._note("healed", "maintenance took the place of quarantine", ok=True)
            self._reason = ""
            self._set(State.MAINTENANCE)

    def _edit(self) -> None:
        with self._wake:
            draft, self._draft = self._draft, None
        if draft:
            self._steps.edit(draft, self._cancel, self._installer)

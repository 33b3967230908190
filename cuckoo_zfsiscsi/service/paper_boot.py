"""The boot of a host that is reset at each boot: asked for, switched on for a run, and followed."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace

from cuckoo_zfsiscsi.config import HostConfig
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import CancelledError, VoidBootError, ZfsIscsiError
from cuckoo_zfsiscsi.netboot.lines import LineLimit
from cuckoo_zfsiscsi.service.base import BaseWorker
from cuckoo_zfsiscsi.service.boot import ECHO, POLL, Boot
from cuckoo_zfsiscsi.service.boot_loop import BootLoop
from cuckoo_zfsiscsi.service.life import prove_silent
from cuckoo_zfsiscsi.service.parts import Parts
from cuckoo_zfsiscsi.service.report import BootReport, State
from cuckoo_zfsiscsi.service.signs import Signs

log = logging.getLogger(__name__)

LOGIN = 4.0
"""Seconds that a boot gets to log in before another request of its host counts."""
FOLLOW = 0.5
"""Seconds between two looks at a boot: nobody waits for it, and hundreds may boot at once."""
RETRY_FIRST = 5.0
"""Seconds from a failure to the first attempt to heal a quarantined host."""
REFUSED_LINES = 10
"""In the log about requests of one host, in a minute; its guest may ask without end."""

Script = Future[str]
"""Done with the boot script, or fails with the reason why there is none. Whoever has cancelled it
did not get the script, and asks again."""


def _waiting(asks: list[Script]) -> list[Script]:
    """Return those that still wait: from here on they can't be cancelled. Call it once for each."""
    return [ask for ask in asks if ask.set_running_or_notify_cancel()]


def is_echo(arrived: float, answered: float, *, has_login: bool) -> bool:
    """Whether a request is the same boot's as the one that was answered last.

    Args:
        arrived: when it came (monotonic seconds), however much later it is looked at.
        answered: when the script was given away.
        has_login: somebody has used the script since.
    """
    return arrived < answered + ECHO and not has_login


class PaperBoot(BaseWorker):
    """Gives the script of the armed disk away, and sees how far the boot comes."""

    def __init__(
        self, config: HostConfig, parts: Parts, in_background: Callable[[Callable[[], None]], None]
    ) -> None:
        super().__init__(config, parts, in_background, RETRY_FIRST)
        self._asks: list[Script] = []
        self._boot: Boot | None = None
        self._script = ""
        self._signs = Signs(self._clock)
        self._pace = parts.pace
        self._stranger = True
        """A guest that was booted in another way than by the last answer may still run."""
        self._answered_at = self._look_at = 0.0
        self._loop = BootLoop()
        self._refused = LineLimit(REFUSED_LINES, self._clock)
        self._due: float | None = None
        """When the run's boot must be ready (monotonic seconds); None: it is not switched on."""

    # Called with the lock held.

    def _refuse(self, error: ZfsIscsiError) -> None:
        asks, self._asks = self._asks, []
        if asks:
            is_written, missing = self._refused.count(self.config.label)
            for who, number in missing.items():
                log.warning("%s got no boot script %d more times", who, number)
            if is_written:
                log.warning("%s gets no boot script: %s", self.config.label, error)
        for ask in _waiting(asks):
            ask.set_exception(error)

    def _answer(self) -> None:
        """Give the script of the armed disk away, if anyone waits for it: a boot begins."""
        if self._must_pause(self._clock.monotonic()):
            return
        asks, self._asks = _waiting(self._asks), []
        if self._boot is None or not asks:
            return
        self._signs.tell(self._boot)  # first: the boot begins now if nothing was seen of it
        self._answered_at = self._clock.monotonic()
        self._look_at = self._answered_at + self._pace.pause(FOLLOW)
        self._pace.call(self._look_at, self._nudge)
        warnings = self._steps.warning, self._count_boot()
        self._boot.report.warning = "; ".join(filter(None, warnings))
        self._boot.arming.ask()
        self._boot.note("script", self._answered_at)
        if self._observer:
            self._observer.note_boot(self._answered_at)
        self._set(State.BOOTING)
        disk = self._steps.disk
        log.info("%s boots generation %s", self.config.label, disk.generation if disk else "?")
        for ask in asks:
            ask.set_result(self._script)

    def _count_boot(self) -> str:
        """Count the boot that begins; return the warning if there are too many in a row."""
        if self._is_awaited():  # a run's, which this service has switched on
            return ""
        loop = self._loop.after_boot(self._answered_at)
        warning = ""
        if loop.pause:
            warning = (
                f"{self.config.label} boots in a loop: the next boot gets its disk not before "
                f"{loop.pause:.0f} s from this one (fix: does its disk boot? "
                f"zfsiscsi hosts {self.config.label}; docs/paper-mode.rst)"
            )
            if not loop.is_told:
                log.warning("%s", warning)
                loop = replace(loop, is_told=True)
        self._loop = loop
        return warning

    def _must_pause(self, now: float) -> bool:
        """Whether those that ask wait, as their host boots in a loop. A run does not."""
        return now < self._loop.next_at and not self._is_awaited()

    def _nudge(self) -> None:
        with self._wake:
            self._wake.notify()

    def _has_begun(self) -> bool:
        return self._boot is not None and self._boot.age > 0

    def _has_login(self) -> bool:
        return self._boot is not None and "login" in self._boot.report.stages

    def _is_awaited(self) -> bool:
        return self._run is not None and not self._run.booted.done()

    # The worker.

    def _await_login(self, boot: Boot) -> None:
        deadline = Deadline(2 * LOGIN, self._cancel)
        while self._clock.monotonic() < self._answered_at + LOGIN and not boot.has_session():
            deadline.sleep(self._pace.pause(POLL), f"waiting for the login of {self.config.label}")

    def _switch_on(self) -> None:
        """Begin the boot that a run waits for: from here on it is the paper's, reset and all."""
        with self._wake:
            boot, now = self._boot, self._clock.monotonic()
            self._due = now + self.config.boot_timeout
            if boot:
                boot.begin(now)
        if boot is None:  # pragma: no cover - clean is armed
            return
        try:
            deadline = Deadline(self.config.power_timeout, self._cancel)
            prove_silent(self.config.label, self._steps.parts.witness, deadline)
            self._steps.parts.power.on(deadline=deadline)
        except ZfsIscsiError as error:
            boot.report.stalled = f"failed: {error}"
            self._steps.note_boot(boot)
            raise
        boot.note("power")

    def _miss(self) -> None:
        """Fail the boot that a run has waited for in vain.

        Raises:
            NotReadyError: always.
        """
        if self._boot is None:  # pragma: no cover - it was armed
            return
        error = self._boot.stalled()
        self._steps.note_boot(self._boot)
        raise error

    def _follow(self) -> None:
        """Look once how far the boot is; slowly when it has taken too long."""
        boot = self._boot
        late = self._clock.monotonic() - self._answered_at - self.config.boot_timeout
        try:
            is_ready = boot is not None and self._is_ready(boot)
        except VoidBootError as error:
            self._take_back(error)
            return
        if boot is None or not is_ready:
            if boot and late >= 0 and not boot.report.stalled:
                self._warning = str(boot.stalled())
                log.warning("%s", self._warning)
                self._steps.note_boot(boot)
            pause = self._pace.pause(FOLLOW if late < 0 else LOGIN)
            self._look_at = self._clock.monotonic() + pause
            return
        with self._wake:
            self._warning = boot.report.stalled = ""
            run = self._run
            if run and self._due is not None and not run.booted.done() and not self._cut_why:
                self._steps.has_recovered(boot.report)
                self._hand_over_to(run, boot.report)
            else:
                self._set(State.RUNNING if run and run.booted.done() else State.READY)
        self._steps.note_boot(boot)
        self._in_background(self._tidy)

    def _take_back(self, error: VoidBootError) -> None:
        """Take its disk from a host whose boot was void: whoever has it, once all is silent.

        Raises:
            VoidBootError: a run waits for the host.
        """
        if self._boot:
            self._steps.note_boot(self._boot)
        if self._is_awaited():
            raise error
        log.warning("%s", error)
        with self._wake:
            self._stranger = True
            self._set(State.DIRTY)

    def _is_ready(self, boot: Boot) -> bool:
        try:
            return boot.look(Deadline(LOGIN, self._cancel))
        except VoidBootError:
            raise
        except CancelledError:  # there is something more urgent
            return False
        except ZfsIscsiError as error:  # no reason to take the disk from a host that runs
            self._warning = str(error)
            return False

    def _note_no_script(self) -> None:
        """Put a boot on record that did not come as far as asking for its script."""
        report = BootReport(self.config.label, 0, self.config.snapshot, prewarmed=False)
        boot = Boot(self.config, self._steps.parts, report)
        self._signs.tell(boot)
        self._warning = str(boot.stalled(look=False))
        log.warning("%s", self._warning)
        self._steps.note_boot(boot)

    def _note_unfinished(self, state: State) -> None:
        """Put a boot on record that ends before it was ready."""
        boot = self._boot
        if state is State.BOOTING and boot and not (boot.report.ready or boot.report.stalled):
            boot.stalled(look=False)
            self._steps.note_boot(boot)

"""What is true of a host and wished from it: its state, run and stops, why it is quarantined."""

from __future__ import annotations

import logging
import time
from concurrent.futures import Future
from typing import Literal

from cuckoo_zfsiscsi.config import HostConfig
from cuckoo_zfsiscsi.deadline import Cancel, Deadline
from cuckoo_zfsiscsi.errors import HostBusyError, QuarantinedError, ZfsIscsiError
from cuckoo_zfsiscsi.power import PowerState
from cuckoo_zfsiscsi.service.events import Event, one_line
from cuckoo_zfsiscsi.service.observer import Observer
from cuckoo_zfsiscsi.service.parts import Parts
from cuckoo_zfsiscsi.service.report import BootReport, HostReport, Run, State
from cuckoo_zfsiscsi.service.steps import Steps

log = logging.getLogger(__name__)

Stopped = Future[None]
"""Done when power is proved off; fails with QuarantinedError when it could not be."""


class Wishes:
    """Kept under one lock, `_wake`; what starts with _ is called with it held."""

    def __init__(self, config: HostConfig, parts: Parts) -> None:
        self.config = config
        self._steps = Steps(config, parts)
        self._clock = parts.clock
        self._wake = self._clock.condition()
        self._state = State.UNKNOWN
        self._since = time.time()
        self._step = ""
        self._warning = ""
        self._cancel = Cancel(self._clock)
        self._closing = Cancel(self._clock)
        self._run: Run | None = None
        self._observer: Observer | None = None
        """Of the run, and after it until what it has seen is on record."""
        self._seen: list[str] = []
        self._start_error = ""
        self._stops: list[Stopped] = []
        self._overdue = False
        self._cut_why = ""
        self._reason = ""

    def overdue(self, stopped: Stopped, seconds: float) -> None:
        """Answer a stop that nobody waits for any longer. The cut goes on until power_timeout.

        Until power is proved off the host is quarantined; then it is not, if only that was late.

        Args:
            stopped: of stop(); nothing happens if it is done.
            seconds: since stop() was called.
        """
        with self._wake:
            if stopped.done():
                return
            self._stops.remove(stopped)
            if not self._reason:
                self._overdue = True
                self._reason = f"its power is not yet proved off, {seconds:.0f} s after stop"
                self._note("failure", self._reason, ok=False)
            stopped.set_exception(self._quarantined())

    def recall(self, seen: list[str]) -> None:
        """Take what was seen in the last run, which another life of the service had."""
        with self._wake:
            self._seen = seen

    def power(self, deadline: Deadline) -> PowerState:
        """Ask for the power state of now, as a person does. Waits.

        Raises:
            PowerError, DeadlineExceededError: no trustworthy answer, or there is no power device.
        """
        power = self._steps.parts.power
        power.forget_refusals()
        return power.status(deadline=deadline)

    def _report(self, boot: BootReport | None) -> HostReport:
        disk, run = self._steps.disk, self._run
        warnings = [self._warning, boot.warning if boot else ""]
        return HostReport(
            label=self.config.label,
            state=State.QUARANTINED if self._reason else self._state,
            since=self._since,
            reason=self._reason,
            step=self._step,
            warning="; ".join(filter(None, warnings)),
            image=disk.image if disk else None,
            generation=disk.generation if disk else None,
            task=run.task if run else None,
            run=run is not None,
            last_boot=boot,
            seen=list(self._seen),
            start_error=self._start_error,
        )

    def _set(self, state: State) -> None:
        if state is not self._state:
            log.info("%s: %s -> %s", self.config.label, self._state.value, state.value)
            self._state, self._since = state, time.time()

    @property
    def _wanted_image(self) -> str:
        run = self._run  # read once: a stop may end the run at any moment
        return run.image if run else self.config.snapshot

    def _begin_run(self, task: str | None, image: str | None) -> Run:
        label = self.config.label
        image = image or self.config.snapshot
        if self._run or self._closing:
            raise HostBusyError(f"{label} has a run already", fix=f"zfsiscsi stop {label}")
        if self._reason:
            raise self._quarantined()
        self._steps.parts.store.find_image(image)
        self._run, self._seen, self._start_error = Run(task, image), [], ""
        self._wake.notify()
        return self._run

    def _hand_over_to(self, run: Run, report: BootReport) -> None:
        self._set(State.RUNNING)
        if self._steps.boot:
            self._steps.boot.begins_run()
        self._steps.parts.runs.begin(run, report)
        self._observer = Observer(self.config, self._steps.parts, lambda: self._steps.boot)
        self._observer.begin()
        run.booted.set_result(report)

    def _end_run(self, error: ZfsIscsiError, *, look: bool = False) -> None:
        """End the run, if there is one; it is looked at once more if power is still on."""
        run, self._run = self._run, None
        if run and not run.booted.done():
            self._start_error = str(error)
            run.booted.set_exception(error)
        elif run:
            self._steps.parts.runs.end(self.config.label)
            if self._observer:
                why = error.what.removeprefix(f"{self.config.label}: ")
                self._observer.end(look=look, why="" if look else one_line(why))

    def _wish_cut(self, why: str) -> None:
        """Make a cut the next step, and end the step under way, unless that is a cut itself."""
        if self._state is not State.STOPPING:
            self._cut_why = why
            self._cancel.set(why)
        self._wake.notify()

    def _wish_stop(self, stopped: Stopped) -> None:
        """Have power cut for someone who waits; one that is quarantined says so at once."""
        if self._reason and not self._step:
            stopped.set_exception(self._quarantined())
        else:
            self._stops.append(stopped)
            self._wish_cut("stop was asked for")

    def _is_cut(self, state: State) -> None:
        """Power is proved off: tell whoever waits for it."""
        self._set(state)
        if self._closing:
            self._cut_why = ""
        if self._overdue:  # all that was wrong is that it came late
            self._overdue, self._reason = False, ""
            self._note("healed", "power is proved off, late", ok=True)
        self._answer_stops(is_off=True)

    def _answer_stops(self, *, is_off: bool) -> None:
        for stopped in self._stops:
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

    def _note(self, kind: Literal["failure", "healed"], what: str, *, ok: bool) -> None:
        disk = self._steps.disk
        generation, image = (disk.generation, disk.image) if disk else (None, None)
        self._steps.parts.events.note(
            Event(self.config.label, kind, ok, what, generation=generation, image=image)
        )

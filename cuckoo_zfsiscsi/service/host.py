"""One host, as everyone else sees it: wishes come from any thread, and none of them waits."""

from __future__ import annotations

import logging
from concurrent.futures import Future
from dataclasses import replace

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.store import Disk
from cuckoo_zfsiscsi.errors import CancelledError, HostBusyError, ZfsIscsiError
from cuckoo_zfsiscsi.netboot.medium import Medium
from cuckoo_zfsiscsi.power import PowerState, Proof
from cuckoo_zfsiscsi.service.plan import OFF
from cuckoo_zfsiscsi.service.report import HostReport, Run, State
from cuckoo_zfsiscsi.service.wishes import Stopped
from cuckoo_zfsiscsi.service.worker import Worker

log = logging.getLogger(__name__)


class Host(Worker):
    """A host in exactly one state. Its worker brings it to where the wishes want it."""

    def close(self) -> None:
        """Ask for the end: power is cut, the worker ends."""
        with self._wake:
            self._closing.set("the service is stopping")
            self._end_run(CancelledError(f"{self.config.label}: the service is stopping"))
            if self._state not in OFF:
                self._wish_cut("the service is stopping")
                self._cut_why = "the service is stopping"  # again, should a cut under way fail
            self._cancel.set("the service is stopping")
            self._wake.notify()

    def join(self, deadline: Deadline) -> bool:
        """Wait for the worker's end; True when power is proved off."""
        self._worker.join(deadline.remaining)
        return self._state in OFF

    def start(self, task: str | None, image: str | None) -> Run:
        """Ask for a run: its `booted` is done when the host is ready, or says why it is not.

        Raises:
            HostBusyError: another run has the host, or it is in maintenance.
            QuarantinedError: it is quarantined.
            ImageError: there is no such image.
        """
        label = self.config.label
        with self._wake:
            if self._maintenance:
                raise HostBusyError(
                    f"{label} is in maintenance", fix=f"zfsiscsi maintenance {label} off"
                )
            return self._begin_run(task, image)

    def abandon(self, run: Run, error: ZfsIscsiError) -> None:
        """Give up a run that is not ready yet; a boot that was begun for it is undone."""
        with self._wake:
            if self._run is run and not run.booted.done():
                self._end_run(error)
                if self._state is State.BOOTING and not self.config.prewarm:
                    self._wish_cut("nobody waits for it any more")
                self._wake.notify()

    def stop(self) -> Stopped:
        """End the run. A host without one is off, or stands by clean: there is nothing to stop."""
        stopped: Stopped = Future()
        with self._wake:
            had_run = self._run is not None
            self._end_run(CancelledError(f"{self.config.label}: stop was asked for"), look=True)
            if self._state in OFF or (
                self._state in (State.BOOTING, State.READY) and not had_run and not self._reason
            ):
                stopped.set_result(None)
            else:
                self._wish_stop(stopped)
        return stopped

    def reset(self) -> None:
        """Prove everything again, from power to disk; heals a quarantined host at once.

        Raises:
            HostBusyError: a run has the host, or it is in maintenance.
        """
        with self._wake:
            self._refuse_while("reset", self._run is not None or self._maintenance)
            self._retry_at = 0.0
            self._steps.parts.power.forget_refusals()
            self._wish_cut("a reset was asked for")

    def maintenance(self, on: bool) -> None:
        """Take the host out of service, off and fenced, or put it back.

        Raises:
            HostBusyError: a run has the host.
        """
        with self._wake:
            self._refuse_while("maintenance", self._run is not None)
            self._draft = None
            if on != self._maintenance or self._steps.editing:
                self._maintenance = on
                self._retry_at = 0.0
                self._wish_cut("maintenance begins" if on else "maintenance ends")

    def edit(self, image: str, deadline: Deadline, installer: str | Medium | None = None) -> Disk:
        """Take the host out of service and boot it from the image's draft, to be changed. Waits.

        Args:
            image: its name.
            deadline: for making the draft; the boot is not waited for.
            installer: what goes on while the draft does not boot: the URL of an iPXE script, or
                the medium of Windows, which is removed in the end.

        Raises:
            HostBusyError: a run has the host.
            ImageError, StoreFullError, DiskError: there is no draft to be had.
        """
        with self._wake:
            self._refuse_while("edit", self._run is not None)
        draft = self._steps.parts.store.edit_image(self.config.label, image, deadline=deadline)
        with self._wake:
            self._refuse_while("edit", self._run is not None)
            self._maintenance, self._draft, self._installer = True, draft, installer
            self._retry_at = 0.0
            self._wish_cut(f"{draft.image} shall be edited")
        return draft

    def switch(self, state: PowerState, deadline: Deadline) -> Proof:
        """Switch power by hand. Waits. A host out of service is fenced: this boots no disk.

        Raises:
            HostBusyError: the host is in service.
            PowerError, DeadlineExceededError: not proved.
        """
        label, power = self.config.label, self._steps.parts.power
        if self.report().state not in (State.MAINTENANCE, State.QUARANTINED):
            raise HostBusyError(
                f"{label} is in service: only the service switches it",
                fix=f"zfsiscsi maintenance {label} on",
            )
        power.forget_refusals()
        return (power.on if state is PowerState.ON else power.off)(deadline=deadline)

    def note(self, stage: str, at: float) -> None:
        """Record that a server saw the host reach a stage of its boot (monotonic seconds)."""
        if stage == "unarmed":
            self._hear(at)
            return
        if self._steps.boot:
            self._steps.boot.note(stage, at)
        observer = self._observer  # read once: a run may end at any moment
        if observer and stage == "script":
            observer.note_boot(at)

    def _hear(self, at: float) -> None:
        """Take a request for the script of a host that has none; whose is off, asks for none."""
        is_news = self._steps.hear(at)
        if self.may_be_on or not is_news:
            return
        label, others = self.config.label, self._steps.parts.others() or "nobody that is known"
        log.warning(
            "someone asks for the boot script of %s, which is off; on in its network: %s",
            label, others,
        )  # fmt: skip

    def report(self) -> HostReport:
        """Return what is known now."""
        with self._wake:
            boot = self._steps.report
            # a copy: servers note stages from threads of their own
            return self._report(replace(boot, stages=dict(boot.stages)) if boot else None)

    def _refuse_while(self, what: str, refused: bool) -> None:
        if refused:
            label = self.config.label
            raise HostBusyError(
                f"{label} is in use or in maintenance: no {what} now", fix=f"zfsiscsi stop {label}"
            )

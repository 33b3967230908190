"""A host that is reset at each boot, as everyone else sees it: reboot it, or start and stop it."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import replace
from typing import NoReturn

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.store import Disk
from cuckoo_zfsiscsi.errors import (
    BootRefusedError,
    CancelledError,
    HostBusyError,
    ZfsIscsiError,
)
from cuckoo_zfsiscsi.netboot.medium import Medium
from cuckoo_zfsiscsi.power import PowerState, Proof
from cuckoo_zfsiscsi.service.paper_boot import Script, is_echo
from cuckoo_zfsiscsi.service.paper_worker import FOLLOWING, RESETTING, PaperWorker
from cuckoo_zfsiscsi.service.report import HostReport, Run, State
from cuckoo_zfsiscsi.service.wishes import Stopped


class PaperHost(PaperWorker):
    """Asked for by iPXE. Every boot of it has a clean disk, whoever has switched it on."""

    def close(self) -> None:
        """Ask for the end: a run's power is cut. Whatever else runs loses its disk soon."""
        why = "the service is stopping"
        with self._wake:
            self._closing.set(why)
            self._end_run(CancelledError(f"{self.config.label}: {why}"))
            if self._must_be_off:
                self._wish_cut(why)
                self._cut_why = why  # again, should a cut under way fail
            self._cancel.set(why)
            self._wake.notify()

    def join(self, deadline: Deadline) -> bool:
        """Wait for the worker's end; True unless the power of a run is not proved off."""
        self._worker.join(deadline.remaining)
        return not self._worker.is_alive() and not self._must_be_off

    def ask(self, *, by_dhcp: bool = False) -> Script:
        """Take a request for the boot script. Does not wait: the answer may.

        Args:
            by_dhcp: it came as DHCP, whose clients ask twice, and again when no answer comes.
        """
        asked: Script = Future()
        arrived = self._clock.monotonic()  # before the lock, which others may hold for long
        with self._wake:
            # Of those that wait no more the last is enough: it is about the next boot
            self._asks = [*(ask for ask in self._asks if not ask.cancelled()), asked]
            # An answer wakes no thread: it would take its time from those that wait for theirs
            if self._closing or self._reason:
                why = f"it is quarantined: {self._reason}" if self._reason else "the service stops"
                self._refuse(BootRefusedError(why))
            elif self._is_armed() and not self._must_pause(arrived):
                self._answer()
            elif (
                by_dhcp
                and self._state is State.BOOTING
                and is_echo(arrived, self._answered_at, has_login=self._has_login())
            ):
                self._asks.remove(asked)
                asked.set_result(self._script)
            else:
                if self._step == FOLLOWING and not self._must_pause(arrived):
                    self._cancel.set("a boot script is asked for")
                self._wake.notify()
        return asked

    def note(self, stage: str, at: float) -> None:
        """Record that a server saw the host reach a stage of a boot (monotonic seconds)."""
        if stage == "script":
            return
        self._signs.note(stage, at)
        with self._wake:
            self._wake.notify()

    def report(self) -> HostReport:
        """Return what is known now."""
        with self._wake:
            boot = self._boot.report if self._boot and self._has_begun() else None
            return self._report(replace(boot, stages=dict(boot.stages)) if boot else None)

    def reset(self) -> None:
        """Try a quarantined host again, now.

        Raises:
            HostBusyError: it is not quarantined.
        """
        with self._wake:
            if not self._reason:
                self._no("reset by hand")
            self._retry_at = 0.0
            self._steps.parts.power.forget_refusals()
            self._wake.notify()

    def start(self, task: str | None, image: str | None) -> Run:
        """Ask for a run: the host is power-cycled, and its boot resets it, as every boot does.

        `booted` of what is returned is done when the host is ready, or says why it is not.

        Raises:
            HostBusyError: another run has the host, or nobody can switch it.
            QuarantinedError: it is quarantined.
            ImageError: there is no such image.
        """
        if not self.config.power_urls:
            label = self.config.label
            raise HostBusyError(
                f"{label} has reset_on = boot and no power device: only people can start it",
                fix=f"set power in [{label}] of zfsiscsi.conf; or press its button: each boot "
                "gives a clean disk",
            )
        with self._wake:
            run = self._begin_run(task, image)
            self._must_be_off = True
            if self._step == RESETTING:  # the run needs that disk
                self._cut_why = "a run begins"
            else:
                self._wish_cut("a run begins")
            return run

    def abandon(self, run: Run, error: ZfsIscsiError) -> None:
        """Give up a run that is not ready yet; its power is cut."""
        with self._wake:
            if self._run is run and not run.booted.done():
                self._end_run(error)
                self._wish_cut("nobody waits for it any more")

    def stop(self) -> Stopped:
        """End the run, and power: whatever has been switched on by whomever is off then.

        Without a power device there is nothing to stop.
        """
        stopped: Stopped = Future()
        with self._wake:
            self._end_run(CancelledError(f"{self.config.label}: stop was asked for"), look=True)
            if self.config.power_urls:
                self._must_be_off = True
                self._wish_stop(stopped)
            else:
                stopped.set_result(None)
        return stopped

    def maintenance(self, on: bool) -> None:  # noqa: ARG002 - as Host
        """Refuse: it is never out of service.

        Raises:
            HostBusyError: always.
        """
        self._no("maintenance")

    def edit(
        self,
        image: str,  # noqa: ARG002 - as Host
        deadline: Deadline,  # noqa: ARG002
        installer: str | Medium | None = None,  # noqa: ARG002
    ) -> Disk:
        """Refuse: it boots nothing but clean disks.

        Raises:
            HostBusyError: always.
        """
        self._no("edit")

    def switch(self, state: PowerState, deadline: Deadline) -> Proof:
        """Switch power by hand: a host that is switched on boots a clean disk. Waits.

        Raises:
            HostBusyError: a run has the host.
            PowerError, DeadlineExceededError: not proved, or there is no power device.
        """
        label, power = self.config.label, self._steps.parts.power
        if self._run:
            raise HostBusyError(f"{label} has a run", fix=f"zfsiscsi stop {label}")
        power.forget_refusals()
        return (power.on if state is PowerState.ON else power.off)(deadline=deadline)

    def _no(self, what: str) -> NoReturn:
        raise HostBusyError(
            f"{self.config.label} has reset_on = boot: no {what}",
            fix="reboot it for a clean disk, or set reset_on = start",
        )

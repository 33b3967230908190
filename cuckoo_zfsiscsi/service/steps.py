"""What can be done with one host, step by step. When to do what is decided in host.py."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager, nullcontext

from cuckoo_zfsiscsi.config import HostConfig
from cuckoo_zfsiscsi.deadline import Cancel, Deadline
from cuckoo_zfsiscsi.disk.reset import Reset, grant, reset
from cuckoo_zfsiscsi.disk.store import Disk
from cuckoo_zfsiscsi.errors import (
    DiskError,
    ImageError,
    PowerError,
    ZfsIscsiError,
)
from cuckoo_zfsiscsi.netboot.medium import Medium
from cuckoo_zfsiscsi.netboot.script import render, render_menu
from cuckoo_zfsiscsi.power import PowerState
from cuckoo_zfsiscsi.power.witness import Heard
from cuckoo_zfsiscsi.progress import silent
from cuckoo_zfsiscsi.service.arming import Arming
from cuckoo_zfsiscsi.service.boot import Boot, void
from cuckoo_zfsiscsi.service.boots import to_event
from cuckoo_zfsiscsi.service.chain import floor
from cuckoo_zfsiscsi.service.events import Event
from cuckoo_zfsiscsi.service.life import prove_silent, refuse
from cuckoo_zfsiscsi.service.parts import Parts
from cuckoo_zfsiscsi.service.report import BootReport

log = logging.getLogger(__name__)

FENCE_TIMEOUT = 20.0
COPY_TIMEOUT = 3600.0
"""Seconds. A reset without a spare copies the whole image first; with one it takes milliseconds."""
FLOWS_TIMEOUT = 20.0
"""Seconds. It takes milliseconds, but a guest can fill the kernel's table: 6 s for 262,144 flows,
on two busy cores."""
AFTER_FENCE = 0.5
"""Seconds after the fence in which a kernel that lives answers the loss of its session, or logs in
anew. The swap and the proof of the next disk go on meanwhile."""
NEWS = 60.0
"""Seconds after which it is worth another line of the log that nobody may ask, and someone does."""
SILENCE = 3.0
"""Seconds for which nobody may have asked in the name of a host before it is switched on."""
PROOF_FRESH = 5.0
"""Seconds for which power, once proved off, needs no second proof."""


class Steps:
    """The steps of one host, and what they found. One thread calls them, one at a time."""

    def __init__(self, config: HostConfig, parts: Parts) -> None:
        self.config = config
        self.parts = parts
        self._clock = parts.clock
        self.disk: Disk | None = None
        self.boot: Boot | None = None
        self.report: BootReport | None = None
        self.reset_steps: dict[str, float] = {}
        self._flows_warning = self._power_warning = ""
        self._medium: Medium | None = None
        self._down_s = 0.0
        self._off_at = self._heard_at = float("-inf")

    def cut(self, seconds: float) -> None:
        """Switch off and prove it. Never cancelled: who wants it undone must want it off first.

        Raises:
            PowerError, DeadlineExceededError: power is not proved off.
        """
        begin = self._clock.monotonic()
        self.parts.boots.disarm(self.config.label)
        proof = self.parts.power.off(deadline=Deadline(seconds, clock=self._clock))
        self._power_warning = "; ".join(proof.others)
        self._off_at = self._clock.monotonic()
        self._down_s = self._off_at - begin
        if self._medium:
            self._medium.remove()
            self._medium = None

    def delete_flows(self) -> None:
        """Make the gateway forget the last boot, which is over: the next has a route of its own.

        A failure keeps no host from being reset. It is the next boot's warning.
        """
        delete = self.parts.delete_flows
        if delete is None:
            return
        begin = self._clock.monotonic()
        self._flows_warning = delete(Deadline(FLOWS_TIMEOUT, clock=self._clock))
        self._down_s += self._clock.monotonic() - begin
        if self._flows_warning:
            log.warning("%s", self._flows_warning)

    @property
    def warning(self) -> str:
        """Of the boot that comes next: what was seen before it."""
        return "; ".join(filter(None, (self._flows_warning, self._power_warning)))

    def reset(self, image: str, cancel: Cancel) -> None:
        """Put a proven-clean disk in place of the dirty one.

        Raises:
            DiskError, TargetError, DeadlineExceededError: the host has no clean disk.
            NotOffError: it lives: it has answered its fence.
            CancelledError: given up.
        """
        self.disk = None
        begin = self._clock.monotonic()
        with self._listening() as heard:
            done = self._reset(image, Deadline(COPY_TIMEOUT, cancel), heard)
        self.reset_steps = done.seconds
        self._down_s += self._clock.monotonic() - begin
        self.disk = done.disk
        self.parts.events.note(
            Event(
                self.config.label,
                "reset",
                ok=True,
                what="a clean disk is in place",
                generation=done.disk.generation,
                image=done.disk.image,
                seconds=sum(done.seconds.values()),
                stages=dict(done.seconds),
            )
        )

    def _listening(self) -> AbstractContextManager[Heard | None]:
        """Listen to the host, if it must be off: one that is reset at its boot is on."""
        must_be_off = self.config.reset_on == "start"
        return self.parts.witness.listening() if must_be_off else nullcontext()

    def _reset(self, image: str, deadline: Deadline, heard: Heard | None) -> Reset:
        fenced_at = 0.0

        def on_step(name: str) -> None:
            nonlocal fenced_at
            if name in ("swap", "rollback"):
                fenced_at = self._clock.monotonic()

        done = reset(
            self.parts.store,
            self.parts.target,
            self.config.label,
            image,
            in_place=self.config.reset == "rollback",
            deadline=deadline,
            on_step=on_step,
        )
        if heard:
            left = fenced_at + AFTER_FENCE - self._clock.monotonic()
            if left > 0:
                deadline.sleep(left, f"listening to {self.config.label}")
            refuse(self.config.label, heard())
        return done

    def is_off(self, cancel: Cancel) -> bool:
        """Return whether power is off, asking only when the last proof has grown old.

        Raises:
            PowerError, DeadlineExceededError, CancelledError: it can't be told.
        """
        is_fresh = self._clock.monotonic() - self._off_at < PROOF_FRESH
        if is_fresh and self._heard_at < self._off_at:
            return True
        deadline = Deadline(self.config.power_timeout, cancel)
        return self.parts.power.status(deadline=deadline) is PowerState.OFF

    def hear(self, at: float) -> bool:
        """Take that the boot script was asked for while the host had none (monotonic seconds).

        Returns:
            Whether it had not been for a while.
        """
        before, self._heard_at = self._heard_at, at
        return at > before + NEWS

    def check_silence(self) -> None:
        """See that nobody asks for a boot script in the name of a host that is off.

        Raises:
            VoidBootError: someone does: it would get that of the boot that begins.
        """
        ago = self._clock.monotonic() - self._heard_at
        if self._heard_at > self._off_at and ago < SILENCE:
            what = f"{self.config.label} is off, and its boot script was asked for {ago:.1f} s ago"
            raise void(f"{what}: someone else uses its name", self.parts.others())

    def start_up(self, cancel: Cancel, *, prewarmed: bool) -> None:
        """Boot from the clean disk until the host is ready.

        Raises:
            ZfsIscsiError: as Boot.run().
        """
        disk, self.disk = self.disk, None
        if disk is None:  # pragma: no cover - the caller's mistake
            raise DiskError(f"{self.config.label} has no clean disk")
        report = BootReport(
            self.config.label,
            disk.generation,
            disk.image,
            prewarmed,
            stages=dict(self.reset_steps),
            warning=self.warning,
        )
        arming = Arming(
            str(self.config.ip),
            self._clock,
            floor=floor(self.config.post_time, self.parts.script_times()),
            sees_dhcp=self.parts.sees_dhcp,
            reboots=self.config.boot_reboots,
        )
        boot = Boot(self.config, self.parts, report, arming)
        self.boot, self.report, self.disk = boot, report, disk
        try:
            boot.run(disk, deadline=Deadline(self.config.boot_timeout, cancel))
        except ZfsIscsiError as error:
            report.stalled = report.stalled or f"failed: {error}"
            self.note_boot(boot)
            raise
        self.has_recovered(report)
        self.note_boot(boot)

    def has_recovered(self, report: BootReport) -> None:
        """Reckon the recovery time of a boot that followed a cut."""
        stages = report.stages
        if "rpc" in stages:
            report.recovery_s = self._down_s + stages["arm"] + stages["rpc"]

    def note_boot(self, boot: Boot) -> None:
        """Put a boot on record."""
        self.parts.events.note(to_event(boot.report, boot.age))

    def has_image(self, image: str) -> bool:
        """Return whether the disk in place is a clone of this image's wanted version."""
        try:
            wanted = self.parts.store.find_image(image).ref
        except DiskError:
            return False  # the reset that follows says why
        return self.disk is not None and self.disk.image == wanted

    def fence(self) -> None:
        """Take disk and boot script from the host.

        Raises:
            TargetError, DeadlineExceededError: a session is still there.
        """
        self.parts.boots.disarm(self.config.label)
        deadline = Deadline(FENCE_TIMEOUT, clock=self._clock)
        self.parts.target.fence(self.config.label, deadline=deadline)

    @property
    def editing(self) -> bool:
        """Whether the host has a draft."""
        return self.disk is not None and self.disk.role == "draft"

    def retire(self) -> None:
        """Take the host's disks away altogether: a draft that it edited can be sealed then.

        Raises:
            TargetError, DeadlineExceededError: a session is still there, or a disk is held.
        """
        self.fence()
        self.disk = None
        deadline = Deadline(FENCE_TIMEOUT, clock=self._clock)
        self.parts.target.release(self.config.label, [], deadline=deadline)
        # It has no disk: who switches it on by hand gets a menu, until cut() or edit()
        self.parts.boots.arm(self.config.label, render_menu(self.config.label))

    def edit(self, draft: Disk, cancel: Cancel, installer: str | Medium | None = None) -> None:
        """Boot an image's draft, for people to change it. Power must be off; it is not waited for.

        Raises:
            ImageError: it is no draft any more.
            TargetError, PowerError, DeadlineExceededError, CancelledError: not switched on.
        """
        if not self.is_off(cancel):
            raise PowerError(f"{self.config.label} is on though nobody switched it on")
        if draft not in self.parts.store.disks(self.config.label):
            raise ImageError(
                f"{draft.image} was sealed or deleted before {self.config.label} could boot it",
                fix=f"zfsiscsi image edit {self.config.label} {draft.image.partition('@')[0]}",
            )
        deadline = Deadline(self.config.power_timeout, cancel)
        prove_silent(self.config.label, self.parts.witness, deadline)
        mutual = self.config.mutual_chap
        export = grant(self.parts.target, draft, mutual=mutual, deadline=deadline)
        self.disk = draft
        script = render(export, installer)
        if isinstance(installer, Medium):
            self._medium = installer
            self.parts.boots.arm(self.config.label, script, installer.files)
        else:
            self.parts.boots.arm(self.config.label, script)
        self.parts.power.on(deadline=deadline)

    def make_safe(self, *, cut: bool) -> bool:
        """After a failure: fence, and cut if asked for, as far as it goes.

        Return whether power was cut and is proved off. Nothing is raised: one that fails in
        whatever way must not keep the other from being done.
        """
        off = False
        try:
            if cut:
                self.cut(self.config.power_timeout)
                off = True
        except Exception as error:  # noqa: BLE001 - see above
            _log_failure(f"{self.config.label}: power is not proved off", error)
        try:
            self.fence()
        except Exception as error:  # noqa: BLE001 - see above
            _log_failure(f"{self.config.label}: not fenced", error)
        return off

    def tidy(self, cancel: Cancel) -> None:
        """Behind the scenes: retire dirty disks and keep the next clean one ready to be swapped in.

        Raises:
            DiskError, TargetError, DeadlineExceededError, CancelledError: not done.
        """
        label, store, target = self.config.label, self.parts.store, self.parts.target
        deadline = Deadline(COPY_TIMEOUT, cancel)
        keep = [disk for disk in store.disks(label) if disk.role != "draft"]
        target.release(label, keep, deadline=deadline)
        store.discard_retired(label, deadline=deadline)
        spare = store.make_spare(label, self.config.snapshot, deadline=deadline, progress=silent)
        target.prepare(spare, deadline=deadline)


def _log_failure(what: str, error: Exception) -> None:
    """Log an error in one line, or one that nobody has foreseen with where it came from."""
    known = isinstance(error, ZfsIscsiError)
    log.error("%s: %s", what, error if known else repr(error), exc_info=None if known else error)

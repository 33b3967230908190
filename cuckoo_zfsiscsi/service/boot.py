"""One boot: from an armed disk and power proved off to a host that is ready."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from ipaddress import IPv4Address
from typing import cast

from cuckoo_zfsiscsi.at_once import at_once
from cuckoo_zfsiscsi.config import HostConfig
from cuckoo_zfsiscsi.deadline import Cancel, Deadline
from cuckoo_zfsiscsi.disk.reset import arm
from cuckoo_zfsiscsi.disk.store import Disk
from cuckoo_zfsiscsi.disk.target import Export, Session
from cuckoo_zfsiscsi.errors import (
    BootRefusedError,
    CancelledError,
    DeadlineExceededError,
    NotReadyError,
    PowerError,
    TargetError,
    VoidBootError,
    ZfsIscsiError,
)
from cuckoo_zfsiscsi.netboot.script import render
from cuckoo_zfsiscsi.power import PowerState
from cuckoo_zfsiscsi.power.witness import WORDS
from cuckoo_zfsiscsi.service.arming import Arming
from cuckoo_zfsiscsi.service.chain import Verdict
from cuckoo_zfsiscsi.service.life import prove_silent
from cuckoo_zfsiscsi.service.parts import Parts, Probe
from cuckoo_zfsiscsi.service.reboots import Reboots
from cuckoo_zfsiscsi.service.report import BootReport
from cuckoo_zfsiscsi.service.stall import ELSEWHERE, foreign_system, hint, missing_stage

log = logging.getLogger(__name__)

POLL = 0.1
"""Seconds between two looks at a host that boots alone; the paper's probe has the same step."""

ECHO = 2.0
"""Seconds in which a second request is the same boot's: no physical machine is reset and asks in
less, so nothing can have been written to the disk by then that this request would boot."""
LATE = 1.0
"""Seconds after which what a server wrote into its log is read at last, on a busy machine. No
system has started and asks for an address so soon after its firmware's boot script."""
PROBE_TIMEOUT = 2.0
"""Seconds that a guest may take to answer one probe; while it boots it is asked again."""
ALIVE_TIMEOUT = 10.0
"""Seconds that one may take which stands by: a busy guest answers late, and is not dead."""
HELD_TIMEOUT = 2.0
"""Seconds in which a system's kernel must answer on its session; else it is asked again."""
VOID_FIX = "hosts that can't trust each other need networks of their own: docs/netboot.rst"
TELL_TIMEOUT = 30.0
"""Seconds in which a guest must have set its default route; PowerShell begins slowly."""


def void(what: str, others: str) -> VoidBootError:
    """Return the error of a boot in which somebody else may have had a hand.

    Args:
        what: happened.
        others: who else was on in the host's network, as Parts.others() says.
    """
    who = f"; on in its network were {others}" if others else ""
    return VoidBootError(what + who, fix=VOID_FIX)


class Boot:
    """Follows one boot, stage by stage.

    Args:
        config: of the host.
        parts: of it.
        report: filled in.
        arming: collects what shows that the boot is the host's alone; by default without what
            only who has switched it on can know.
    """

    def __init__(
        self, config: HostConfig, parts: Parts, report: BootReport, arming: Arming | None = None
    ) -> None:
        self._config = config
        self._parts = parts
        self._clock = parts.clock
        self.report = report
        self._power_on: float | None = None
        self._power_seen = float("-inf")
        self.export: Export | None = None
        self._is_told = False
        self.arming = arming or Arming(str(config.ip), self._clock)
        self._script = ""
        self.reboots: Reboots | None = None
        self._unproven = ""
        """What was missing at the last look though all probes had answered."""
        self._void: VoidBootError | None = None
        self._cancel: Cancel | None = None

    def run(self, disk: Disk, *, deadline: Deadline) -> None:
        """Arm the disk, switch on and return when the host is ready.

        Raises:
            UnprovenDiskError, TargetError, PowerError: a step failed.
            NotOffError: the host is on already.
            NotReadyError: a stage did not come by the deadline.
            VoidBootError: it may not be its host's alone.
            CancelledError: given up.
        """
        parts, config = self._parts, self._config
        self._script = render(self._arm_in_silence(disk, deadline))
        self.reboots = Reboots(config, parts, self._script, self.is_held)
        self._cancel = deadline.cancel
        try:
            parts.boots.arm(config.label, self.ask)
            self.begin(self._clock.monotonic())
            parts.power.on(deadline=deadline.within(config.power_timeout))
            self._power_seen = self._clock.monotonic()
            self.note("power")
            self._await_ready(deadline)
        except CancelledError:
            if self._void:
                raise self._void from None
            raise

    def ask(self) -> str | Future[str]:
        """Answer a request for the boot script, from any thread: it is given once.

        Raises:
            BootRefusedError: nobody gets it any more.
        """
        verdict, why = self.arming.ask()
        if verdict is Verdict.WHOLE and self.reboots:
            return self.reboots.ask()
        if verdict is Verdict.VOID:
            spoilt = self._spoilt(why)
            if self._cancel is not None:  # an unset one is false
                self._cancel.set(spoilt.what)
            raise BootRefusedError(why)
        return self._script

    def _spoilt(self, why: str) -> VoidBootError:
        """Return what to say of a boot that is void, the first time with who may have done it."""
        if self._void is None:
            label = self._config.label
            what = f"the boot of {label} is void, someone else may have used its name: {why}"
            self._void = void(what, self._parts.others())
            self.report.stalled = f"void: {why}"
        return self._void

    def _arm_in_silence(self, disk: Disk, deadline: Deadline) -> Export:
        """Arm the disk, and look meanwhile whether the host still is off.

        Nobody has its credentials before both are done.
        """
        begin = self._clock.monotonic()
        silent = partial(prove_silent, self._config.label, self._parts.witness, deadline)
        calls: list[Callable[[], Export | None]] = [
            partial(self.arm, disk, deadline=deadline),
            silent,
        ]
        armed, look = at_once(calls, self._clock, "arm")
        export = armed.result()
        look.result()
        self.report.stages["arm"] = self._clock.monotonic() - begin
        return cast("Export", export)

    def _await_ready(self, deadline: Deadline) -> None:
        try:
            while not self.look(deadline):
                pause = self._parts.pace.pause(POLL)
                deadline.sleep(pause, f"booting {self._config.label}")
        except DeadlineExceededError:
            raise self.stalled() from None

    @property
    def age(self) -> float:
        """Seconds since the power-on request; 0 before it."""
        return self._clock.monotonic() - self._power_on if self._power_on is not None else 0.0

    def arm(self, disk: Disk, *, deadline: Deadline) -> Export:
        """Export the disk with credentials of its own.

        Raises:
            UnprovenDiskError, DiskError, TargetError: as disk.reset.arm().
        """
        begin = self._clock.monotonic()
        self.export = arm(
            self._parts.store,
            self._parts.target,
            disk,
            mutual=self._config.mutual_chap,
            deadline=deadline,
        )
        self.report.stages["arm"] = self._clock.monotonic() - begin
        return self.export

    def begin(self, at: float) -> None:
        """Count the stages from this moment (monotonic seconds)."""
        self.arming.begin(at)
        self._power_on = at
        self.report.started = time.time() - (self._clock.monotonic() - at)

    def note(self, stage: str, at: float | None = None) -> None:
        """Record when a stage was reached (monotonic seconds; now when None), once per boot."""
        at = self._clock.monotonic() if at is None else at
        self.arming.note(stage, at)
        script = self.report.stages.get("script")
        if stage in ("dhcp", "tftp") and script is not None and self._power_on is not None:
            if at > self._power_on + script + LATE:
                return  # the guest's own affair
            at = min(at, self._power_on + script)
        if stage == "dhcp" and "tftp" in self.report.stages:
            stage = "ipxe"
        if self._power_on is not None and at >= self._power_on:
            self.report.stages.setdefault(stage, at - self._power_on)

    def alive(self, cancel: Cancel, *, power_age: float) -> str:
        """Look whether the host still is what was booted; return what is wrong, or nothing.

        Args:
            cancel: ends the look early.
            power_age: seconds; the power device is asked too if its last answer is older. What
                answers over its session is on, whatever the device says: this is about whether it
                could be switched off. All are asked at the same time, as a run may wait for it.

        Raises:
            CancelledError: given up.
        """
        if self.was_rebooted:
            return "its boot script was asked for when its session was gone"
        looks: list[Callable[[], str]] = [self._logged_out]
        looks += [partial(self._silent, *probe, cancel) for probe in self._parts.probes.items()]
        if self._clock.monotonic() > self._power_seen + power_age:
            looks.append(partial(self._not_on, cancel))
        found = [look.result() for look in at_once(looks, self._clock, "look")]
        return next((wrong for wrong in found if wrong), "")

    def _logged_out(self) -> str:
        if self.has_session():
            return ""
        ended = self._parts.target.ended(self._config.label)
        return f"its iSCSI session is gone{ended and f': {ended}'}"

    def _silent(self, stage: str, probe: Probe, cancel: Cancel) -> str:
        answer = probe(Deadline(ALIVE_TIMEOUT, cancel))
        return "" if answer.ok else f"{stage} does not answer any more: {answer.detail}"

    def _not_on(self, cancel: Cancel) -> str:
        """Say so if it is not on, or not known to be: such a host could not be stopped."""
        deadline = Deadline(self._config.power_timeout, cancel)
        try:
            state = self._parts.power.status(deadline=deadline)
        except (PowerError, DeadlineExceededError) as error:
            return f"its power state is not known: {error.what}"
        self._power_seen = self._clock.monotonic()
        return "" if state is PowerState.ON else "its power device says that it is off"

    @property
    def was_rebooted(self) -> bool:
        """Whether its script was asked for once more while nobody had it, without its session."""
        return self.reboots is not None and self.reboots.rebooted

    def begins_run(self) -> None:
        """From here on its reboots are a run's."""
        if self.reboots:
            self.reboots.in_run = True

    def has_session(self) -> bool:
        """Return whether this generation's session is up.

        The disk was fenced before it was armed with credentials of its own, so a session that
        uses them began after this power-on.
        """
        return bool(self.sessions())

    def sessions(self) -> list[Session]:
        """Return this generation's sessions that are up now.

        Raises:
            TargetError: the target does not answer.
        """
        if self.export is None:
            return []
        found = self._parts.target.sessions(self._config.label)
        self.arming.see(found)
        initiator = self.export.credentials.initiator
        return [session for session in found if session.initiator == initiator]

    def is_held(self, deadline: Deadline, quiet: float = 0.0) -> bool:
        """Ask the host's kernel whether it is at its end of this generation's session.

        A target does not notice at once that a host is gone which did not say so.

        Args:
            deadline: for the answer.
            quiet: seconds for which nothing may have come from it before it counts as gone.

        Raises:
            OSError, DeadlineExceededError, CancelledError: as readiness.session.is_held().
        """
        export = self.export
        if export is None:
            return False
        portal = IPv4Address(export.portal)
        return self._parts.is_held(
            portal, export.port, self._config.ip, quiet=quiet, deadline=deadline
        )

    def look(self, deadline: Deadline) -> bool:
        """Take one look; True when the host is ready.

        Raises:
            TargetError: the target, or the kernel, can't be asked.
            VoidBootError: the boot may not be its host's alone.
        """
        stages = self.report.stages
        has_session = self.has_session()
        self._check(*self.arming.judge())
        if "login" not in stages:
            if not has_session:
                return False
            self.note("login")
        for stage, probe in self._parts.probes.items():
            if stage in stages:
                continue
            if not probe(deadline.within(PROBE_TIMEOUT)).ok:
                return False
            self.note(stage)
        self._tell_default_route(deadline)
        # The firmware's session ended on the way, so the system's own must be looked at again.
        if self.has_session() and self._system_holds(deadline):
            verdict, self._unproven = self.arming.conclude()
            self._check(verdict, self._unproven)
            self.report.ready = verdict is Verdict.WHOLE
        else:
            self._unproven = "no system holds a session of its disk: has it booted from another?"
        return self.report.ready

    def _check(self, verdict: Verdict, why: str) -> None:
        if verdict is Verdict.VOID:
            raise self._spoilt(why)

    def _system_holds(self, deadline: Deadline) -> bool:
        """Whether a system is at the session's other end: a firmware's, left behind, lasts too."""
        try:
            return self.is_held(deadline.within(HELD_TIMEOUT))
        except DeadlineExceededError:
            return False
        except OSError as error:
            raise TargetError(
                f"the kernel can't be asked for the session of {self._config.label}: {error}",
                fix="apt install iproute2; the service must run as root",
            ) from None

    def _tell_default_route(self, deadline: Deadline) -> None:
        """Tell it once; a system that does not take it is ready all the same.

        In a time of its own: the boot's is for becoming ready, and that it is.
        """
        tell = self._parts.default_route
        if tell is None or self._is_told:
            return
        warning = tell(Deadline(TELL_TIMEOUT, deadline.cancel))
        self._is_told = True  # not if it was cancelled: a boot that goes on needs it
        if warning:
            log.warning("%s", warning)
        self.report.warning = "; ".join(filter(None, (self.report.warning, warning)))

    def stalled(self, *, look: bool = True) -> NotReadyError:
        """Return what to say of a boot whose time is up: the missing stage, and likely causes.

        Args:
            look: see whether the guest answers though it did not log in; that takes seconds.
        """
        host = self._config.label
        missing = missing_stage(self.report.stages, self._parts.probes)
        what = f"{host} did not become ready in {self._config.boot_timeout:g} s: no {missing}"
        if self._unproven:
            what = f"{what.partition(': no')[0]}: it answers, but {self._unproven}"
        fix = hint(missing, self._config)
        if look and (sign := foreign_system(missing, self._signs())):
            what += f", though {sign}: it booted from something else than its disk"
            fix = ELSEWHERE.format(host=host)
        self.report.stalled = f"no {missing}: {fix}"
        return NotReadyError(what, fix=fix)

    def _signs(self) -> dict[str, str]:
        """Look for a system that runs on the host; return what shows it, by kind, for people."""
        deadline = Deadline(PROBE_TIMEOUT, clock=self._clock)

        def answers(name: str, probe: Probe) -> dict[str, str]:
            return {name: WORDS[name]} if probe(deadline).heard else {}

        def life() -> dict[str, str]:
            try:
                return self._parts.witness.look(deadline=deadline).signs
            except ZfsIscsiError as error:
                log.info("%s: %s", self._config.label, error)
                return {}

        looks = [partial(answers, *probe) for probe in self._parts.probes.items()]
        calls: list[Callable[[], dict[str, str]]] = [*looks, life]
        found = at_once(calls, self._clock, "look")
        return {kind: sign for look in found for kind, sign in look.result().items()}

"""One boot: from an armed disk and power proved off to a host that is ready."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from cuckoo_zfsiscsi.config import HostConfig
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.reset import arm
from cuckoo_zfsiscsi.disk.store import Disk, Store
from cuckoo_zfsiscsi.disk.target import Export, Target
from cuckoo_zfsiscsi.errors import DeadlineExceededError, NotReadyError
from cuckoo_zfsiscsi.netboot.script import render
from cuckoo_zfsiscsi.power import Power
from cuckoo_zfsiscsi.readiness import Answer
from cuckoo_zfsiscsi.service.report import STAGES, BootReport

POLL = 0.1
"""Seconds between two looks at a booting host; the paper's probe has the same step."""

PROBE_TIMEOUT = 2.0
"""Seconds that a guest may take to answer one probe."""

Probe = Callable[[Deadline], Answer]

HINTS = {
    "power": "look at the BMC: zfsiscsi power {host} status",
    "dhcp": "the host did not ask for an address: is network boot first in its firmware, "
    "is it cabled to the boot network, is its mac right in zfsiscsi.conf?",
    "script": "iPXE did not ask for its boot script: does firmware = {firmware} match the host, "
    "does its NIC need another boot_file (snponly.efi)?",
    "login": "the host got its boot script but did not log in to its disk: can it reach the "
    "portal, and is a firewall in between?",
    "rpc": "the disk is attached but the guest's RPC service does not answer: look at the "
    "host's screen, and see whether the image boots on this hardware",
    "agent": "Windows is up but CAPE's agent is not: does the image start it at logon?",
}
"""What to look at when a boot ends before this stage."""


class Boots(Protocol):
    """Hands boot scripts to armed hosts and to nobody else."""

    def arm(self, label: str, script: str) -> None:
        """Serve this script to the host from now on."""
        ...

    def disarm(self, label: str) -> None:
        """Serve the host nothing from now on."""
        ...


@dataclass(frozen=True)
class Parts:
    """What a host is made of. It knows these protocols and no driver."""

    store: Store
    target: Target
    power: Power
    boots: Boots
    probes: Mapping[str, Probe]
    """By stage name, in the order in which they must answer."""


class Boot:
    """Follows one boot, stage by stage."""

    def __init__(self, config: HostConfig, parts: Parts, report: BootReport) -> None:
        self._config = config
        self._parts = parts
        self._report = report
        self._power_on: float | None = None
        self.export: Export | None = None

    def run(self, disk: Disk, *, deadline: Deadline) -> None:
        """Arm the disk, switch on and return when the host is ready.

        Raises:
            UnprovenDiskError, TargetError, PowerError: a step failed.
            NotReadyError: a stage did not come by the deadline.
            CancelledError: given up.
        """
        parts, label = self._parts, self._config.label
        begin = time.monotonic()
        export = arm(parts.store, parts.target, disk, deadline=deadline)
        self.export = export
        parts.boots.arm(label, render(export))
        self._power_on = time.monotonic()
        self._report.stages["arm"] = self._power_on - begin
        parts.power.on(deadline=deadline.within(self._config.power_timeout))
        self.note("power")
        try:
            while not self._look(deadline):
                deadline.sleep(POLL, f"booting {label}")
        except DeadlineExceededError:
            raise self._stalled() from None
        self._report.ready = True

    def note(self, stage: str, at: float | None = None) -> None:
        """Record when a stage was reached (monotonic seconds; now when None), once per boot."""
        at = time.monotonic() if at is None else at
        if self._power_on is not None and at >= self._power_on:
            self._report.stages.setdefault(stage, at - self._power_on)

    def alive(self) -> str:
        """Look whether the host still is what was booted; return what is wrong, or nothing."""
        if not self.has_session():
            return "its iSCSI session is gone"
        for stage, probe in self._parts.probes.items():
            answer = probe(Deadline(PROBE_TIMEOUT))
            if not answer.ok:
                return f"{stage} does not answer any more: {answer.detail}"
        return ""

    def has_session(self) -> bool:
        """Return whether this generation's session is up.

        The disk was fenced before it was armed with credentials of its own, so a session that
        uses them began after this power-on.
        """
        if self.export is None:
            return False
        initiator = self.export.credentials.initiator
        sessions = self._parts.target.sessions(self._config.label)
        return any(session.initiator == initiator for session in sessions)

    def _look(self, deadline: Deadline) -> bool:
        """Take one look; True when the host is ready."""
        stages = self._report.stages
        if "login" not in stages:
            if not self.has_session():
                return False
            self.note("login")
        for stage, probe in self._parts.probes.items():
            if stage in stages:
                continue
            if not probe(deadline.within(PROBE_TIMEOUT)).ok:
                return False
            self.note(stage)
        # The firmware's session ended on the way, so the system's own must be looked at again.
        return self.has_session()

    def _stalled(self) -> NotReadyError:
        host, stages = self._config.label, self._report.stages
        wanted = [*STAGES[:-2], *self._parts.probes]
        reached = max((wanted.index(stage) for stage in stages if stage in wanted), default=-1)
        missing = wanted[min(reached + 1, len(wanted) - 1)]
        what = f"{host} did not become ready in {self._config.boot_timeout:g} s: no {missing}"
        if missing == "login" and self._answers():
            what += ", though the guest answers: it booted from something else than its disk"
        fix = HINTS[missing].format(host=host, firmware=self._config.firmware)
        return NotReadyError(what, fix=fix)

    def _answers(self) -> bool:
        return any(probe(Deadline(PROBE_TIMEOUT)).ok for probe in self._parts.probes.values())

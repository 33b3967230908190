"""What can be done with one host, step by step. When to do what is decided in host.py."""

from __future__ import annotations

import logging
import time

from cuckoo_zfsiscsi.config import HostConfig
from cuckoo_zfsiscsi.deadline import Cancel, Deadline
from cuckoo_zfsiscsi.disk.reset import reset
from cuckoo_zfsiscsi.disk.store import Disk
from cuckoo_zfsiscsi.errors import DiskError, ZfsIscsiError
from cuckoo_zfsiscsi.power import PowerState
from cuckoo_zfsiscsi.progress import silent
from cuckoo_zfsiscsi.service.boot import Boot, Parts
from cuckoo_zfsiscsi.service.report import BootReport

log = logging.getLogger(__name__)

FENCE_TIMEOUT = 20.0
COPY_TIMEOUT = 3600.0
"""Seconds. A reset without a spare copies the whole image first; with one it takes milliseconds."""
PROOF_FRESH = 5.0
"""Seconds for which power, once proved off, needs no second proof."""


class Steps:
    """The steps of one host, and what they found. One thread calls them, one at a time."""

    def __init__(self, config: HostConfig, parts: Parts) -> None:
        self.config = config
        self.parts = parts
        self.disk: Disk | None = None
        self.boot: Boot | None = None
        self.report: BootReport | None = None
        self._reset_steps: dict[str, float] = {}
        self._down_s = 0.0
        self._off_at = float("-inf")

    def cut(self, seconds: float) -> None:
        """Switch off and prove it. Never cancelled: who wants it undone must want it off first.

        Raises:
            PowerError, DeadlineExceededError: power is not proved off.
        """
        begin = time.monotonic()
        self.parts.boots.disarm(self.config.label)
        self.parts.power.off(deadline=Deadline(seconds))
        self._off_at = time.monotonic()
        self._down_s = self._off_at - begin

    def reset(self, image: str, cancel: Cancel) -> None:
        """Put a proven-clean disk in place of the dirty one.

        Raises:
            DiskError, TargetError, DeadlineExceededError: the host has no clean disk.
            CancelledError: given up.
        """
        self.disk = None
        begin = time.monotonic()
        done = reset(
            self.parts.store,
            self.parts.target,
            self.config.label,
            image,
            deadline=Deadline(COPY_TIMEOUT, cancel),
        )
        self._reset_steps = done.seconds
        self._down_s += time.monotonic() - begin
        self.disk = done.disk

    def is_off(self, cancel: Cancel) -> bool:
        """Return whether power is off, asking only when the last proof has grown old.

        Raises:
            PowerError, DeadlineExceededError, CancelledError: it can't be told.
        """
        if time.monotonic() - self._off_at < PROOF_FRESH:
            return True
        deadline = Deadline(self.config.power_timeout, cancel)
        return self.parts.power.status(deadline=deadline) is PowerState.OFF

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
            stages=dict(self._reset_steps),
        )
        boot = Boot(self.config, self.parts, report)
        self.boot, self.report, self.disk = boot, report, disk
        boot.run(disk, deadline=Deadline(self.config.boot_timeout, cancel))
        stages = report.stages
        if "rpc" in stages:
            report.recovery_s = self._down_s + stages["arm"] + stages["rpc"]

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
        self.parts.target.fence(self.config.label, deadline=Deadline(FENCE_TIMEOUT))

    def make_safe(self, *, cut: bool) -> bool:
        """After a failure: fence, and cut if asked for, as far as it goes.

        Return whether power was cut and is proved off.
        """
        off = False
        try:
            if cut:
                self.cut(self.config.power_timeout)
                off = True
        except ZfsIscsiError as error:
            log.error("%s: power is not proved off: %s", self.config.label, error)
        try:
            self.fence()
        except ZfsIscsiError as error:
            log.error("%s: not fenced: %s", self.config.label, error)
        return off

    def tidy(self, cancel: Cancel) -> None:
        """Behind the scenes: drop retired disks and keep one spare ahead.

        Raises:
            DiskError, DeadlineExceededError, CancelledError: not done.
        """
        label, store = self.config.label, self.parts.store
        deadline = Deadline(COPY_TIMEOUT, cancel)
        store.discard_retired(label, deadline=deadline)
        store.make_spare(label, self.config.snapshot, deadline=deadline, progress=silent)

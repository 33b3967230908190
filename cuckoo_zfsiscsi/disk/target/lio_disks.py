"""The disks of one host in the kernel's target: as LUNs of the host's target, or being closed."""

from __future__ import annotations

import logging
from collections.abc import Collection
from functools import partial
from pathlib import Path

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.bounded import bounded
from cuckoo_zfsiscsi.disk.target.identity import Identity
from cuckoo_zfsiscsi.disk.target.lio_backstore import Backstore, Backstores, wait_until_free
from cuckoo_zfsiscsi.disk.target.lio_group import Group

log = logging.getLogger(__name__)


class HostDisks:
    """Of one host, by device. One thread at a time, but for close().

    Args:
        host: label.
        identity: how its disks show themselves.
        group: its target.
        backstores: of the whole target.
    """

    def __init__(self, host: str, identity: Identity, group: Group, backstores: Backstores) -> None:
        self.identity = identity
        self._host = host
        self._group = group
        self._backstores = backstores
        self._luns: dict[Path, Backstore] = {}
        self._closing: dict[Path, Backstore] = {}

    def ready(self, device: Path, deadline: Deadline) -> tuple[Backstore, int]:
        """Make whatever of target, backstore and LUN is not there, or not what it was."""
        self._group.ensure(deadline)
        known = self._luns.get(device)
        if known and not known.is_whole:
            log.warning("%s was changed by someone else: it is taken anew", known.path)
            self.part(device, deadline)
        if device in self._closing:
            self._close(device, deadline)
        if device not in self._luns:
            made = self._backstores.make(self._host, device, self.identity, deadline)
            self._luns[device] = made
        backstore = self._luns[device]
        return backstore, self._group.attach(backstore.path, deadline)

    def part(self, device: Path, deadline: Deadline) -> None:
        """Take a disk from the host's target; it is still open."""
        self._group.detach(self._luns[device].path, deadline)
        self._closing[device] = self._luns.pop(device)

    def keep(self, kept: Collection[Path | None], deadline: Deadline) -> None:
        """Take all other disks from the host's target; they are still open."""
        for device in [device for device in self._luns if device not in kept]:
            self.part(device, deadline)

    def close(self, deadline: Deadline) -> None:
        """Close the disks that were taken from the host's target, and see that they are closed."""
        for device in list(self._closing):
            self._close(device, deadline)

    def _close(self, device: Path, deadline: Deadline) -> None:
        backstore = self._closing.get(device)
        if backstore:
            self._backstores.remove(backstore.path, deadline)
            what = f"waiting for {device} to be closed"
            bounded(partial(wait_until_free, device, deadline), what, deadline)
            self._closing.pop(device, None)

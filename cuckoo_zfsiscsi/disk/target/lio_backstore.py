"""Backstores: what the kernel's target knows of a disk, before and after any host may see it.

Made without rtslib: its own way restores reservations that it finds on record for the same serial
number, changes a setting of the whole target on the way, and hides errors of what is written.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import stat
import time
import zlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.block import ERESTARTSYS, PATIENCE, open_block
from cuckoo_zfsiscsi.disk.target.identity import Identity
from cuckoo_zfsiscsi.disk.target.lio_kernel import CORE, TARGET, entries, get, put, remove
from cuckoo_zfsiscsi.disk.target.lio_writer import Writer
from cuckoo_zfsiscsi.errors import TargetError

log = logging.getLogger(__name__)

PREFIX = "zfsiscsi-"
_POLL = 0.01
_RANGE = 1 << 12
_FIRST = 1 << 20
"""rtslib numbers its own from 0 up to here."""


@dataclass(frozen=True, slots=True)
class Backstore:
    """A disk of a host that the kernel's target holds open."""

    path: Path
    """In configfs."""
    device: Path
    number: int
    """Device number: what the path meant then."""

    @property
    def is_whole(self) -> bool:
        """Whether it is still there, and still this disk."""
        try:
            same = self.device.stat().st_rdev == self.number
        except FileNotFoundError:
            return False
        return same and get(self.path / "enable") == "1"

    @property
    def is_reserved(self) -> bool:
        """Whether an initiator has a persistent reservation or is registered for one."""
        holder = get(self.path / "pr/res_holder") or ""
        registered = get(self.path / "pr/res_pr_registered_i_pts") or ""
        return not holder.startswith("No ") or not registered.endswith("None")


class Backstores:
    """The backstores of one service, told from others' by their number.

    Args:
        iqn: base name of the service's targets.
        writer: of configfs.
    """

    def __init__(self, iqn: str, writer: Writer) -> None:
        self._first = _FIRST + zlib.crc32(iqn.encode()) % (1 << 18) * _RANGE
        self._writer = writer

    def make(self, host: str, device: Path, shown: Identity, deadline: Deadline) -> Backstore:
        """Let the target open a disk. No host can see it yet.

        Raises:
            TargetError: it is no block device, someone else has it, or the kernel refuses.
            DeadlineExceededError, CancelledError: not done.
        """
        what = f"taking {device} for {host}"
        call = partial(self._make, f"{PREFIX}{host}-{device.name}", device, shown)
        return self._writer.change(call, what, deadline)

    def _make(self, name: str, device: Path, shown: Identity) -> Backstore:
        info = device.stat()
        if not stat.S_ISBLK(info.st_mode):
            raise TargetError(
                f"LIO can't export {device}: it is no block device", fix="[storage] store = zfs"
            )
        path = self._place() / name
        try:
            path.mkdir()
            put(path / "udev_path", str(device))
            put(path / "control", f"udev_path={device}")
            _open(path)
            # EXTENDED COPY reaches other disks; ordinary ones have none
            put(path / "attrib/emulate_3pc", "0")
            with contextlib.suppress(OSError):  # a device that can't discard
                put(path / "attrib/emulate_tpu", "1")
            _show(path, shown)
            forget_reservations(shown.serial)
        except BaseException:
            _take(path)
            raise
        return Backstore(path, device, info.st_rdev)

    def _place(self) -> Path:
        """Make the directory of the next number that is free: each backstore has its own."""
        for number in range(self._first, self._first + _RANGE):
            with contextlib.suppress(FileExistsError):
                path = CORE / f"iblock_{number}"
                path.mkdir()
                return path
        raise TargetError("too many disks are exported")

    def remove(self, path: Path, deadline: Deadline) -> None:
        """Close a disk: that waits for what was written to it. No error if it is closed.

        Raises:
            TargetError: a LUN still has it.
            DeadlineExceededError, CancelledError: it is not closed yet.
        """
        what = f"closing {path.name.removeprefix(PREFIX)}"
        self._writer.remove(path, partial(_take, path), what, deadline)

    def all(self) -> list[Path]:
        """Return every backstore of ours, also a half-made one of an earlier process."""
        found = []
        for place in entries(CORE, "iblock_"):
            number = int(place.name.removeprefix("iblock_"))
            if self._first <= number < self._first + _RANGE:
                found += entries(place) or [place / PREFIX]
        return found


def _open(path: Path) -> None:
    """Let the kernel open the device: it fails as our own open_block() would."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return put(path / "enable", "1")
        except OSError as error:
            if error.errno != ERESTARTSYS or time.monotonic() > end:
                raise
        time.sleep(_POLL)


def _show(path: Path, shown: Identity) -> None:
    """Name the disk. The kernel takes that only before a LUN maps it, and only what fits."""
    for attribute, value in (
        ("vpd_unit_serial", shown.serial),
        ("vendor_id", shown.vendor),
        ("product_id", shown.model),
        ("revision", shown.revision),
        ("company_id", f"{shown.company:#08x}"),
    ):
        if (path / "wwn" / attribute).exists():
            put(path / "wwn" / attribute, value)
        else:
            log.warning("this kernel can't change a disk's %s", attribute)


def _take(path: Path) -> None:
    remove(path)
    with contextlib.suppress(FileNotFoundError):
        path.parent.rmdir()


def forget_reservations(serial: str) -> None:
    """Delete the kernel's record of reservations that were to survive a power loss (APTPL).

    Other software restores them by the serial number, which a host's disks all have.
    """
    root = get(TARGET / "dbroot")  # the kernel's name for it
    if root:
        Path(root, "pr", f"aptpl_{serial}").unlink(missing_ok=True)


def is_free(device: Path) -> bool:
    """Return whether nobody has a block device to himself."""
    try:
        os.close(open_block(device, os.O_RDONLY | os.O_EXCL | os.O_NONBLOCK))
    except OSError as error:
        return error.errno != errno.EBUSY
    return True


def wait_until_free(device: Path, deadline: Deadline) -> None:
    """Wait until nobody has a block device to himself.

    Raises:
        DeadlineExceededError, CancelledError: someone still has.
    """
    while not is_free(device):
        deadline.sleep(_POLL, f"waiting for {device} to be let go of by someone else")

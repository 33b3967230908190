"""The kernel's target as configfs shows it: what must be there, how it is read and written.

Sources: drivers/target/target_core_configfs.c and iscsi/iscsi_target_configfs.c of Linux 6.1.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cuckoo_zfsiscsi.disk import kernel_file
from cuckoo_zfsiscsi.errors import TargetError

CONFIGFS = Path("/sys/kernel/config")
TARGET = CONFIGFS / "target"
CORE, ISCSI = TARGET / "core", TARGET / "iscsi"
_MODPROBE = "modprobe -a target_core_mod target_core_iblock iscsi_target_mod"
_FIXES = {
    errno.EBUSY: "who else has it? lsblk; ls -l /sys/kernel/config/target/iscsi/*/tpgt_*/lun/*",
    errno.EADDRINUSE: "is another target running? ss -ltnp; targetcli ls",
}


def check_kernel(configfs: Path = CONFIGFS) -> None:
    """Look whether there is a target that can be configured; load what loads by itself.

    Raises:
        TargetError: configfs is not mounted, or a module is missing.
    """
    if not os.path.ismount(configfs):
        fix = f"modprobe configfs; mount -t configfs configfs {configfs}"
        raise TargetError(f"configfs is not mounted on {configfs}", fix=fix)
    try:
        (configfs / "target/iscsi").mkdir(exist_ok=True)  # the kernel loads iscsi_target_mod
    except OSError as error:
        what = f"the kernel has no iSCSI target ({error.strerror})"
        raise TargetError(what, fix=_MODPROBE) from error


def rtslib() -> Any:  # noqa: ANN401 - it has no types
    """Import rtslib, which exists for the system's Python only: not before it is needed.

    Raises:
        TargetError: it can't be imported.
    """
    try:
        import rtslib_fb
    except ImportError as error:
        what = f"Python can't import {error.name}"
        raise TargetError(what, fix="apt install python3-rtslib-fb") from error
    return rtslib_fb


@contextmanager
def refusals(what: str) -> Iterator[None]:
    """Turn what the kernel refuses into the target's error.

    Args:
        what: was being done.

    Raises:
        TargetError: instead of OSError and rtslib's own, which hides the kernel's reason.
    """
    try:
        yield
    except (OSError, rtslib().RTSLibError) as error:
        reason = error if isinstance(error, OSError) else error.__context__
        code = reason.errno if isinstance(reason, OSError) else None
        said = f"{error}: {os.strerror(code)}" if code and reason is not error else str(error)
        raise TargetError(f"{what}: {said}", fix=_FIXES.get(code or 0, "journalctl -k")) from error


def entries(folder: Path, prefix: str = "") -> list[Path]:
    """Return the directories in a directory of configfs; none when it is gone."""
    try:
        with os.scandir(folder) as found:
            return [
                Path(entry.path)
                for entry in found
                if entry.name.startswith(prefix) and entry.is_dir(follow_symlinks=False)
            ]
    except FileNotFoundError:
        return []


def links(folder: Path) -> list[Path]:
    """Return the links in a directory of configfs; none when it is gone."""
    try:
        with os.scandir(folder) as found:
            return [Path(entry.path) for entry in found if entry.is_symlink()]
    except FileNotFoundError:
        return []


def get(path: Path) -> str | None:
    """Return an attribute; None when it is gone."""
    try:
        return kernel_file.read(path).decode().strip("\0\n ")
    except FileNotFoundError:
        return None


def put(path: Path, value: str) -> None:
    """Write an attribute so that the kernel's answer shows: a buffered file can hide it."""
    handle = os.open(path, os.O_WRONLY)
    try:
        os.write(handle, value.encode())
    finally:
        os.close(handle)


def remove(folder: Path) -> None:
    """Remove a directory whose links name other objects (a LUN, a mapped LUN). No error if gone."""
    with suppress(FileNotFoundError):
        for link in links(folder):
            link.unlink()
        folder.rmdir()


def remove_acl(acl: Path) -> None:
    """Take a host's way in: sessions are dropped and reservations forgotten.

    Returns when the session's last command and the last half-open login have ended.
    """
    for mapped in entries(acl, "lun_"):
        remove(mapped)
    remove(acl)


def remove_target(target: Path) -> None:
    """Remove a target with all that is in it, as far as it is there."""
    for group in entries(target, "tpgt_"):
        if get(group / "enable") == "1":  # switching it off twice is EINVAL
            put(group / "enable", "0")
        for acl in entries(group / "acls"):
            remove_acl(acl)
        for inside in (*entries(group / "lun"), *entries(group / "np")):
            remove(inside)
        remove(group)
    remove(target)

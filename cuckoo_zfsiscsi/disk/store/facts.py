"""What the kernel knows of a file without reading it, and how a golden one is protected."""

from __future__ import annotations

import array
import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_GET_FLAGS = 0x80086601  # FS_IOC_GETFLAGS, FS_IOC_SETFLAGS, FS_IMMUTABLE_FL of <linux/fs.h>
_SET_FLAGS = 0x40086602
_IMMUTABLE = 0x10

TICK = 0.02
"""Seconds after which a change of a file gets another time stamp. The kernel's clock of inodes
ticks every 1 to 10 ms (CONFIG_HZ): two changes within one tick look like one."""


@dataclass(frozen=True, slots=True)
class Facts:
    """Facts that change with every write. A change time can't be set back, a modify time can."""

    size: int
    inode: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, path: Path) -> Facts:
        """Read them. Raises OSError."""
        stat = path.stat(follow_symlinks=False)
        return cls(stat.st_size, stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns)

    @classmethod
    def settled(cls, path: Path) -> Facts:
        """Read them so that whatever changes the file from now on shows. Raises OSError."""
        time.sleep(TICK)
        return cls.of(path)


def opened_by(path: Path) -> str:
    """Return a process that has a file open, as words; "" if there is none.

    Only root sees the files of every process (proc(5), /proc/PID/fd). Raises OSError.
    """
    wanted = path.stat()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended, or closed the file
            for link in (process / "fd").iterdir():
                with contextlib.suppress(OSError):
                    if os.path.samestat(link.stat(), wanted):
                        return f"{(process / 'comm').read_text().strip()}, process {process.name}"
    return ""


def protect(path: Path, *, immutable: bool) -> None:
    """Make a file read-only; also for root (chattr +i) if wanted and the file system can."""
    path.chmod(0o400)
    if immutable:
        with contextlib.suppress(OSError):  # tmpfs and NFS can't
            _set_immutable(path, on=True)


def unprotect(path: Path) -> None:
    """Undo protect(), so that the file can be removed."""
    with contextlib.suppress(OSError):
        _set_immutable(path, on=False)


def _set_immutable(path: Path, *, on: bool) -> None:
    with _opened(path) as handle:
        flags = array.array("L", [0])
        fcntl.ioctl(handle, _GET_FLAGS, flags)
        wanted = flags[0] | _IMMUTABLE if on else flags[0] & ~_IMMUTABLE
        if wanted != flags[0]:
            fcntl.ioctl(handle, _SET_FLAGS, array.array("L", [wanted]))


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        yield handle
    finally:
        os.close(handle)

"""Who has the store: one service on this server, and no other server that had it last."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.store.record import locked, try_lock
from cuckoo_zfsiscsi.disk.store.server import Server
from cuckoo_zfsiscsi.disk.store.zfs_call import Zfs
from cuckoo_zfsiscsi.disk.store.zfs_layout import OWNER, Layout
from cuckoo_zfsiscsi.errors import DiskError

LOCKS = Path("/run/lock/zfsiscsi")
"""The same for every configuration of this server. Gone at a reboot, as the processes are."""


def lock_file(layout: Layout, what: str) -> Path:
    """Return the file whose lock is meant.

    Raises:
        DiskError: someone who is not root made the folder.
    """
    LOCKS.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = LOCKS.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise DiskError(f"{LOCKS} is not ours", fix=f"ls -ld {LOCKS}; remove it")
    return LOCKS / f"{layout.parent.replace('/', '+')}.{what}"


def catalogue_lock(layout: Layout, deadline: Deadline) -> contextlib.AbstractContextManager[None]:
    """Be the only one, among processes, who adds, seals or deletes images, or drops evidence.

    Raises:
        DeadlineExceededError, CancelledError: someone else is at it.
    """
    what = "waiting for another process that changes images or evidence"
    return locked(lock_file(layout, "catalogue"), deadline, what)


class Lease:
    """The right to have the store open.

    The lock goes with the process, so a crash on this machine is no obstacle. The owner's name in
    the pool stays after a crash: another machine that imports the pool is told then, a clone of
    this one, too.
    """

    def __init__(self, layout: Layout, zfs: Zfs, server: Server) -> None:
        self._layout = layout
        self._zfs = zfs
        self._server = server
        self._handle: int | None = None

    @property
    def held(self) -> bool:
        """Whether it is ours now."""
        return self._handle is not None

    def take(self, owner: str, deadline: Deadline) -> None:
        """Take it.

        Args:
            owner: on record in the pool; "" for none.
            deadline: for all of it.

        Raises:
            DiskError: another service has it, or another machine did not give it up.
        """
        path = lock_file(self._layout, "service")
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if not try_lock(handle):
                pid = os.pread(handle, 32, 0).decode("ascii", "replace").strip() or "unknown"
                raise DiskError(
                    f"the store {self._layout.parent} is in use by another service, process {pid}",
                    fix=f"stop that one first; look at it with: ps -fp {pid}",
                )
            self._server.check_owner(
                Server.parse(owner),
                self._layout.parent,
                f"zfsiscsi storage init {self._layout.place} --take",
            )
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
            mine = str(self._server)
            if owner != mine:
                self._zfs.set([(self._layout.parent, OWNER, mine)], deadline=deadline)
        except BaseException:
            os.close(handle)
            raise
        self._handle = handle

    def give_up(self, deadline: Deadline) -> None:
        """Let another service have it, on another machine, too. Nothing if it is not ours."""
        handle, self._handle = self._handle, None
        if handle is None:
            return
        try:
            self._zfs.set([(self._layout.parent, OWNER, "")], deadline=deadline)
        finally:
            os.close(handle)

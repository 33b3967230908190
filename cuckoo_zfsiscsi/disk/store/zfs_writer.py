"""Properties that may reach the pool a little later than they are true: written in the background.

A property is set in a transaction group, and that one first writes what guests have just written:
seconds, after a sample that was busy. A swap can't wait for it. So roles change in memory at once,
and one thread puts them on record, in order.

A crash in between is harmless, because open() does not trust what is on record of a spare, but ZFS:

- It was still a spare on record, but a host had it already. If the guest wrote, then after a sync
  `written@base` is not 0, and the spare is retired. If it is 0 after a sync, nothing was written,
  or what was written was lost with the power: either way the disk holds what its image holds.
- The old disk is still the current one on record. A current disk is never proven after open().
- `tainted` was not recorded: as above. The secrets that the guest knows die with the service.
"""

from __future__ import annotations

import logging
import threading

from cuckoo_zfsiscsi.deadline import Cancel, Deadline
from cuckoo_zfsiscsi.disk.store.zfs_call import Facts, Zfs
from cuckoo_zfsiscsi.errors import DiskError, ZfsIscsiError

log = logging.getLogger(__name__)

_PATIENCE = 3600.0
"""Seconds for one attempt: while the pool is suspended there is nothing else to do."""
_PAUSE = 2.0
"""Seconds between two attempts."""


class Writer:
    """One thread that sets properties."""

    def __init__(self, zfs: Zfs) -> None:
        self._zfs = zfs
        self._wake = threading.Condition()
        self._pending: dict[tuple[str, str], str] = {}
        self._writing: dict[tuple[str, str], str] = {}
        self._failure: ZfsIscsiError | None = None
        self._closing = Cancel()
        self._thread = threading.Thread(target=self._work, name="zfs-writer", daemon=True)
        self._thread.start()

    def put(self, facts: Facts) -> None:
        """Have properties set soon; what is put later is set later, or at the same time."""
        with self._wake:
            for dataset, name, value in facts:
                self._pending[dataset, name] = value
            self._wake.notify_all()

    def flush(self, deadline: Deadline) -> None:
        """Wait until all is on record that was put so far.

        Raises:
            DiskError: the last attempt failed; it is tried again.
            DeadlineExceededError, CancelledError: not done.
        """
        what = "putting the roles of disks on record"
        with self._wake:
            self._failure = None
            while self._pending or self._writing:
                deadline.check(what)
                if self._failure:
                    raise DiskError(f"{what}: {self._failure.what}", fix=self._failure.fix)
                self._wake.wait(min(0.1, deadline.remaining))

    def close(self, deadline: Deadline) -> None:
        """Write what is left, and end.

        Raises:
            DiskError, DeadlineExceededError, CancelledError: as flush(); it is given up.
        """
        try:
            self.flush(deadline)
        finally:
            with self._wake:
                self._closing.set("the store is closed")
                self._wake.notify_all()
            self._thread.join(deadline.remaining)

    def _work(self) -> None:
        while not self._closing:
            with self._wake:
                if not self._pending:
                    self._wake.wait()
                    continue
                batch, self._pending = self._pending, {}
                self._writing = batch
            failure = self._write(batch)
            with self._wake:
                self._writing, self._failure = {}, failure
                if failure:
                    self._pending = {**batch, **self._pending}
                self._wake.notify_all()
            if failure:
                self._closing.wait(_PAUSE)

    def _write(self, batch: dict[tuple[str, str], str]) -> ZfsIscsiError | None:
        facts = [(dataset, name, value) for (dataset, name), value in batch.items()]
        try:
            self._zfs.set(facts, deadline=Deadline(_PATIENCE, self._closing))
        except ZfsIscsiError as error:
            log.warning("roles of disks are not on record yet: %s", error)
            return error
        return None

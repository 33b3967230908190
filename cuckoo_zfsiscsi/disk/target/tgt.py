"""The tgt driver: a user-space tgtd of our own, that nobody else configures.

A host that may boot has a target of its own with one LUN, one account and one initiator name in
its ACL; a fenced host has none. Every export gets a target number (tid) that was never used before:
a login that was begun under an older export and is ended later finds no target (tgtd looks the
number up once more when a login ends).
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from cuckoo_zfsiscsi.daemon import Daemon
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.store import Disk
from cuckoo_zfsiscsi.disk.target import Credentials, Export, Session
from cuckoo_zfsiscsi.disk.target.identity import Identity, made_up_serial
from cuckoo_zfsiscsi.disk.target.names import check_names
from cuckoo_zfsiscsi.disk.target.tgt_ipc import Code, Ipc, Mode, Op, RefusedError
from cuckoo_zfsiscsi.disk.target.tgt_logins import Logins
from cuckoo_zfsiscsi.disk.target.tgt_names import check_path, identities
from cuckoo_zfsiscsi.errors import DeadlineExceededError, TargetError

log = logging.getLogger(__name__)

LUN = 1  # tgt keeps LUN 0 for itself
_POLL = 0.005
_ASK_TIMEOUT = 5.0
_CLOSE_TIMEOUT = 5.0
_CONTROL_PORT = 0
_SUN_PATH = 107  # longest path of a unix socket, unix(7)
_LONG_PDUS = "MaxRecvDataSegmentLength=262144"
"""tgt takes 8 KiB at once by default: a guest's writes are several times as fast with this."""


@dataclass(frozen=True, slots=True)
class _Exported:
    tid: int
    disk: Disk
    credentials: Credentials


class TgtTarget:
    """Exports disks through tgtd. Implements the Target protocol; safe between threads.

    Args:
        portal: address that hosts log in to, unless they have another.
        port: TCP port of it, for hosts that have no other.
        iqn: base name; the target of host pc1 is IQN:pc1.
        run_dir: for the control socket and the pid file.
        identities: how the disk of each host shows itself, by label.
        portals: address that each host logs in to, by label.
        ports: TCP port there, by label.
    """

    def __init__(
        self,
        *,
        portal: IPv4Address,
        port: int,
        iqn: str,
        run_dir: Path,
        identities: Mapping[str, Identity] | None = None,
        portals: Mapping[str, IPv4Address] | None = None,
        ports: Mapping[str, int] | None = None,
    ) -> None:
        self._portal, self._port, self._iqn = str(portal), port, iqn
        self._portals = {label: str(address) for label, address in (portals or {}).items()}
        self._ports = ports or {}
        every = [self._portal_of(label) for label in self._ports] or [(self._portal, port)]
        self._listens = [f"{address}:{number}" for address, number in dict.fromkeys(every)]
        self._run_dir = run_dir
        self._identities = identities or {}
        socket = run_dir / "tgtd.sock"
        self._ipc = Ipc(socket.with_name(f"{socket.name}.{_CONTROL_PORT}"))
        self._logins = Logins(self._ipc, *zip(*every, strict=True))
        self._daemon = Daemon(
            ["tgtd", "-f", "-C", str(_CONTROL_PORT),
             "--iscsi", ",".join(f"portal={listens}" for listens in self._listens)],
            run_dir / "tgtd.pid",
            env={"TGT_IPC_SOCKET": str(socket)},
            error=TargetError,
            install="apt install tgt",
            grace=0.0,  # tgtd ignores SIGTERM, and has nothing to put in order
        )  # fmt: skip
        self._lock = threading.RLock()
        self._exports: dict[str, _Exported] = {}
        self._last_tid = 0
        self._opened = False

    def open(self, *, deadline: Deadline) -> None:
        """As Target.open()."""
        with self._lock:
            self._start(deadline)
            self._opened = True

    def _start(self, deadline: Deadline) -> None:
        path = self._ipc.path
        if len(os.fsencode(path)) > _SUN_PATH:
            raise TargetError(f"{path} is too long for a socket", fix="choose a shorter run_dir")
        self._run_dir.mkdir(mode=0o755, parents=True, exist_ok=True)
        self._exports.clear()
        self._daemon.start(deadline, ready=self._answers)
        told = self._ipc.call(Mode.PORTAL, Op.SHOW, deadline=deadline)
        portals = {line.removeprefix("Portal: ") for line in told.splitlines() if line}
        if portals != {f"{listens},1" for listens in self._listens}:
            # tgtd listens on every address when it can't have the one that it was told.
            self._daemon.stop(Deadline(0))
            raise TargetError(
                f"tgtd can't listen on {', '.join(self._listens)}: {self._daemon.tail}",
                fix="is another target running (systemctl stop tgt), and does this server have "
                "the addresses? ss -ltnp",
            )

    def _answers(self) -> bool:
        with contextlib.suppress(TargetError):
            self._ipc.call(Mode.SYSTEM, Op.SHOW, deadline=Deadline(_ASK_TIMEOUT))
            return True
        return False

    def close(self) -> None:
        """As Target.close(). The kernel closes every session of a killed tgtd."""
        with self._lock:
            self._opened = False
            self._exports.clear()
            self._daemon.stop(Deadline(0))

    def initiator(self, disk: Disk) -> str:
        """As Target.initiator()."""
        return f"{self._iqn}:{disk.host}.g{disk.generation}"

    def fence(self, host: str, *, deadline: Deadline) -> None:
        """As Target.fence(). A tgtd that died is started again: nothing is exported then."""
        with self._lock:
            if self._opened and not self._daemon.alive():
                log.error("tgtd has died, it is started again: %s", self._daemon.tail)
                self._start(deadline)
            exported = self._exports.get(host)
        if exported is None:
            return
        tid, credentials = exported.tid, exported.credentials
        # Names first: from here on no login begins. The account goes last: a target without an
        # account asks for no secret.
        acl = f"initiator-name={credentials.initiator}"
        self._ipc.undo(Mode.TARGET, Op.UNBIND, acl, tid=tid, deadline=deadline)
        while not self._is_gone(tid, deadline):
            self._logins.drop(tid, deadline)
            deadline.sleep(_POLL, f"waiting for the last command of {host} to end")
        for user in filter(None, (credentials.user, credentials.reverse_user)):
            self._ipc.undo(Mode.ACCOUNT, Op.DELETE, f"user={user}", deadline=deadline)
        while self._holds(exported.disk.path):
            deadline.sleep(_POLL, f"waiting for tgtd to close the disk of {host}")
        with self._lock:
            self._exports.pop(host, None)

    def _is_gone(self, tid: int, deadline: Deadline) -> bool:
        """Try to delete a target; tgtd leaves one alone that has a session.

        Never force it: tgtd ends itself when a command is still under way then.
        """
        try:
            self._ipc.call(Mode.TARGET, Op.DELETE, tid=tid, deadline=deadline)
        except RefusedError as error:
            if error.code in (Code.TARGET_ACTIVE, Code.LUN_ACTIVE):
                return False
            if error.code != Code.NO_TARGET:
                raise
        return True

    def prepare(self, disk: Disk, *, deadline: Deadline) -> None:
        """As Target.prepare(): tgtd makes a LUN in a millisecond, there is nothing to do ahead."""

    def release(self, host: str, keep: Collection[Disk], *, deadline: Deadline) -> None:
        """As Target.release(): fence() has closed every disk already."""

    def export(self, disk: Disk, credentials: Credentials, *, deadline: Deadline) -> Export:
        """As Target.export()."""
        name = f"{self._iqn}:{disk.host}"
        check_names(name, credentials)
        check_path(disk.path)
        with self._lock:
            self._check_alive()
            if disk.host in self._exports:
                raise TargetError(f"{disk.host} is not fenced: its old disk is exported")
            self._last_tid += 1
            exported = _Exported(self._last_tid, disk, credentials)
            self._exports[disk.host] = exported  # so that fence() cleans up whatever comes
            try:
                self._build(exported, name, deadline)
            except BaseException:
                with contextlib.suppress(TargetError, DeadlineExceededError):
                    self.fence(disk.host, deadline=Deadline(_CLOSE_TIMEOUT))
                raise
        portal, port = self._portal_of(disk.host)
        return Export(portal, port, name, LUN, credentials)

    def _portal_of(self, host: str) -> tuple[str, int]:
        """Return address and TCP port."""
        return self._portals.get(host, self._portal), self._ports.get(host, self._port)

    def _build(self, exported: _Exported, name: str, deadline: Deadline) -> None:
        """Make the target; its ACL last: until then it refuses every login."""
        tid, disk, who = exported.tid, exported.disk, exported.credentials
        call = self._ipc.call
        call(Mode.TARGET, Op.NEW, f"targetname={name}", tid=tid, deadline=deadline)
        call(Mode.TARGET, Op.UPDATE, _LONG_PDUS, tid=tid, deadline=deadline)
        account = f"user={who.user},password={who.secret}"
        call(Mode.ACCOUNT, Op.NEW, account, deadline=deadline)
        call(Mode.ACCOUNT, Op.BIND, f"user={who.user}", tid=tid, deadline=deadline)
        if who.reverse_user:
            user = f"user={who.reverse_user}"
            account = f"{user},password={who.reverse_secret}"
            call(Mode.ACCOUNT, Op.NEW, account, deadline=deadline)
            call(Mode.ACCOUNT, Op.BIND, user, tid=tid, outgoing=True, deadline=deadline)
        backing = f"path={disk.path},bstype=rdwr"
        call(Mode.DEVICE, Op.NEW, backing, tid=tid, lun=LUN, deadline=deadline)
        for lun, identity in identities(self._identity(disk.host), LUN):
            call(Mode.DEVICE, Op.UPDATE, identity, tid=tid, lun=lun, deadline=deadline)
        if not self._holds(disk.path, writable=True):
            raise TargetError(f"tgtd did not open {disk.path} for writing")
        acl = f"initiator-name={who.initiator}"
        call(Mode.TARGET, Op.BIND, acl, tid=tid, deadline=deadline)

    def sessions(self, host: str) -> list[Session]:
        """As Target.sessions()."""
        with self._lock:
            self._check_alive()
            exported = self._exports.get(host)
        if exported is None:
            return []
        found = self._logins.up(exported.tid, Deadline(_ASK_TIMEOUT))
        return [Session(c.initiator, c.address, c.number) for c in found]

    def _identity(self, host: str) -> Identity:
        return self._identities.get(host) or Identity(made_up_serial(host))

    def _holds(self, path: Path, *, writable: bool = False) -> bool:
        """Return whether tgtd has a file open, as the kernel knows it."""
        path, proc = path.resolve(), Path(f"/proc/{self._daemon.pid}")
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has died
            for link in (proc / "fd").iterdir():
                with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                    if link.readlink() != path:
                        continue
                    info = (proc / "fdinfo" / link.name).read_text()
                    flags = int(info.partition("flags:")[2].split()[0], 8)
                    if not writable or flags & os.O_ACCMODE == os.O_RDWR:
                        return True
        return False

    def _check_alive(self) -> None:
        if not self._daemon.alive():
            raise TargetError(
                f"tgtd has died: {self._daemon.tail}", fix="the next reset starts it again"
            )

"""The tgt driver: a tgtd for each host that may boot, which nobody else configures.

It is started when a host's disk is exported, in a sandbox, with one target, one LUN, one account
and one initiator name in its ACL; a fenced host has none. What a guest does to it, whatever it is,
it does to its own run.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import re
import socket
import threading
from collections.abc import Collection, Mapping
from ipaddress import IPv4Address
from pathlib import Path

from cuckoo_zfsiscsi.connections import listeners
from cuckoo_zfsiscsi.daemon import Daemon, left_over
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.store import Disk
from cuckoo_zfsiscsi.disk.target import Credentials, Export, Session
from cuckoo_zfsiscsi.disk.target.identity import Identity, made_up_serial
from cuckoo_zfsiscsi.disk.target.names import check_names
from cuckoo_zfsiscsi.disk.target.tgt_calls import program
from cuckoo_zfsiscsi.disk.target.tgt_ipc import Mode, Op
from cuckoo_zfsiscsi.disk.target.tgt_logins import logins
from cuckoo_zfsiscsi.disk.target.tgt_names import identities
from cuckoo_zfsiscsi.disk.target.tgt_process import PID_FILES, PortalError, Tgtd
from cuckoo_zfsiscsi.disk.target.tgt_sandbox import DISK, programs
from cuckoo_zfsiscsi.errors import DeadlineExceededError, TargetError

log = logging.getLogger(__name__)

LUN = 1  # tgt keeps LUN 0 for itself
_TID = 1
_EVERY = -1
_ASK_TIMEOUT = 5.0
_CLOSE_TIMEOUT = 5.0
_LONG_PDUS = "MaxRecvDataSegmentLength=262144"
"""tgt takes 8 KiB at once by default: a guest's writes are several times as fast with this."""
_WRITABLE = re.compile(rf"^ +LUN: {LUN}\n(?: +(?!LUN).+\n)*? +Readonly: No$", re.M)


class TgtTarget:
    """Exports disks through tgtds. Implements the Target protocol; safe between threads.

    Args:
        portal: address that hosts log in to, unless they have another.
        port: TCP port of it, for a host that has no other.
        iqn: base name; the target of host pc1 is IQN:pc1.
        run_dir: for control sockets and pid files.
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
        self._run_dir = run_dir
        self._identities = identities or {}
        self._lock = threading.Lock()
        self._exports: dict[str, Tgtd] = {}

    def open(self, *, deadline: Deadline) -> None:
        """As Target.open()."""
        programs()
        program()
        for mark in left_over(self._run_dir, PID_FILES):
            Daemon(["tgtd"], mark, error=TargetError, grace=0.0).end_leftover(deadline)
        for portal in {self._portal_of(label) for label in self._ports} or {self._portal_of("")}:
            _check_free(*portal)

    def close(self) -> None:
        """As Target.close(). The kernel closes every session of a killed tgtd."""
        with self._lock:
            hosts = list(self._exports)
        for host in hosts:
            self.fence(host, deadline=Deadline(_CLOSE_TIMEOUT))

    def initiator(self, disk: Disk) -> str:
        """As Target.initiator()."""
        return f"{self._iqn}:{disk.host}.g{disk.generation}"

    def fence(self, host: str, *, deadline: Deadline) -> None:
        """As Target.fence()."""
        with self._lock:
            tgtd = self._exports.get(host)
        if tgtd is None:
            return
        if ended := tgtd.ended():
            log.warning("%s: its iSCSI target had ended: %s: %r", host, ended, tgtd.tail)
        tgtd.stop(deadline)
        with self._lock:
            if self._exports.get(host) is tgtd:
                del self._exports[host]

    def prepare(self, disk: Disk, *, deadline: Deadline) -> None:
        """As Target.prepare(): a tgtd is up in some milliseconds, there is nothing to do ahead."""

    def release(self, host: str, keep: Collection[Disk], *, deadline: Deadline) -> None:
        """As Target.release(): fence() has closed every disk already."""

    def export(self, disk: Disk, credentials: Credentials, *, deadline: Deadline) -> Export:
        """As Target.export()."""
        name = f"{self._iqn}:{disk.host}"
        check_names(name, credentials)
        address, port = self._portal_of(disk.host)
        try:
            self._export(disk, name, credentials, deadline)
        except PortalError:
            if not self._end_squatter(address, port, deadline):
                raise
            self._export(disk, name, credentials, deadline)
        return Export(address, port, name, LUN, credentials)

    def _export(self, disk: Disk, name: str, who: Credentials, deadline: Deadline) -> None:
        tgtd = Tgtd(disk.host, disk.path, self._portal_of(disk.host), self._run_dir)
        with self._lock:
            if disk.host in self._exports:
                raise TargetError(f"{disk.host} is not fenced: its old disk is exported")
            self._exports[disk.host] = tgtd  # so that fence() cleans up whatever comes
        try:
            tgtd.start(deadline)
            self._build(tgtd, name, who, deadline)
        except BaseException:
            with contextlib.suppress(TargetError, DeadlineExceededError):
                self.fence(disk.host, deadline=Deadline(_CLOSE_TIMEOUT))
            raise

    def _end_squatter(self, address: str, port: int, deadline: Deadline) -> bool:
        """End a tgtd of ours that listens where another should; return whether there was one.

        Of itself none does: a guest has taken it over, and could keep others from booting.
        """
        users = listeners(address, port)
        with self._lock:
            found = [tgtd for tgtd in self._exports.values() if tgtd.user in users]
        for tgtd in found:
            log.error("tgtd of %s has taken port %d, not its own: it is ended", tgtd.host, port)
            tgtd.kill(deadline)
        return bool(found)

    def _portal_of(self, host: str) -> tuple[str, int]:
        """Return address and TCP port."""
        return self._portals.get(host, self._portal), self._ports.get(host, self._port)

    def _build(self, tgtd: Tgtd, name: str, who: Credentials, deadline: Deadline) -> None:
        """Make the target; its ACL last: until then it refuses every login."""

        def call(
            mode: Mode, op: Op, parameters: str = "", *, lun: int = 0, outgoing: bool = False
        ) -> str:
            return tgtd.ipc.call(
                mode, op, parameters, tid=_TID, lun=lun, outgoing=outgoing, deadline=deadline
            )

        call(Mode.TARGET, Op.NEW, f"targetname={name}")
        call(Mode.TARGET, Op.UPDATE, _LONG_PDUS)
        call(Mode.ACCOUNT, Op.NEW, f"user={who.user},password={who.secret}")
        call(Mode.ACCOUNT, Op.BIND, f"user={who.user}")
        if who.reverse_user:
            user = f"user={who.reverse_user}"
            call(Mode.ACCOUNT, Op.NEW, f"{user},password={who.reverse_secret}")
            call(Mode.ACCOUNT, Op.BIND, user, outgoing=True)
        call(Mode.DEVICE, Op.NEW, f"path={DISK},bstype=rdwr", lun=LUN)
        for lun, identity in identities(self._identity(tgtd.host), LUN):
            call(Mode.DEVICE, Op.UPDATE, identity, lun=lun)
        shown = tgtd.ipc.call(Mode.TARGET, Op.SHOW, tid=_EVERY, deadline=deadline)
        if not _WRITABLE.search(shown):
            raise TargetError(f"tgtd did not open {tgtd.disk} for writing")
        call(Mode.TARGET, Op.BIND, f"initiator-name={who.initiator}")
        tgtd.is_armed = True

    def sessions(self, host: str) -> list[Session]:
        """As Target.sessions()."""
        with self._lock:
            tgtd = self._exports.get(host)
        if tgtd is None or not tgtd.is_armed or tgtd.ended():
            return []
        try:
            return logins(tgtd.ipc, _TID, Deadline(_ASK_TIMEOUT))
        except TargetError:
            if tgtd.ended():  # just now
                return []
            raise

    def ended(self, host: str) -> str:
        """As Target.ended()."""
        with self._lock:
            tgtd = self._exports.get(host)
        return tgtd.ended() if tgtd else ""

    def _identity(self, host: str) -> Identity:
        return self._identities.get(host) or Identity(made_up_serial(host))


def _check_free(address: str, port: int) -> None:
    """Look whether a tgtd will be able to listen: who starts a service wants to know it at once.

    Raises:
        TargetError: it will not.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as tgtd does
        try:
            probe.bind((address, port))
            probe.listen()
        except OSError as error:
            fix = "is another target running (systemctl stop tgt)? ss -ltnp"
            if error.errno == errno.EADDRNOTAVAIL:
                fix = "give this server the address, or [storage] another portal: ip -br addr"
            raise TargetError(f"tgtd can't listen on {address}:{port}: {error}", fix=fix) from None

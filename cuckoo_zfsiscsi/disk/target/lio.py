"""The LIO driver: the kernel's target, set up through rtslib and configfs (target_core_mod).

A host has one target and one portal for good. What changes at a reset is the ACL, which holds the
generation's secret and maps its disk; a fenced host has none. Disks are taken and let go of behind
the scenes, by prepare() and release(). What the kernel has is asked for each time: others may have
changed it, and it is put in order, or the call says what is wrong.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path

from cuckoo_zfsiscsi.at_once import at_once
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.bounded import bounded
from cuckoo_zfsiscsi.disk.store import Disk
from cuckoo_zfsiscsi.disk.target import Credentials, Export, Session
from cuckoo_zfsiscsi.disk.target.identity import Identity, made_up_serial
from cuckoo_zfsiscsi.disk.target.lio_backstore import Backstores, forget_reservations
from cuckoo_zfsiscsi.disk.target.lio_commands import LARGEST, Commands
from cuckoo_zfsiscsi.disk.target.lio_disks import HostDisks
from cuckoo_zfsiscsi.disk.target.lio_door import Door
from cuckoo_zfsiscsi.disk.target.lio_group import LUN, Group, portal_of
from cuckoo_zfsiscsi.disk.target.lio_kernel import ISCSI, check_kernel, entries, rtslib
from cuckoo_zfsiscsi.disk.target.lio_logins import End
from cuckoo_zfsiscsi.disk.target.lio_writer import Writer
from cuckoo_zfsiscsi.disk.target.names import check_names
from cuckoo_zfsiscsi.errors import TargetError, ZfsIscsiError

log = logging.getLogger(__name__)

CLOSE_TIMEOUT = 20.0
_ASK_TIMEOUT = 15.0
"""Seconds: a busy server is no reason to give a boot up."""


@dataclass
class _Host:
    """What a host has, and who is changing it."""

    group: Group
    disks: HostDisks
    lock: threading.Lock = field(default_factory=threading.Lock)
    exported: Path | None = None
    """The device."""
    initiator: str = ""
    ended: str = ""
    """Why it was fenced within its run."""


class LioTarget:
    """Exports disks through the kernel. Implements the Target protocol; safe between threads.

    Args:
        portal: address that hosts log in to, unless they have another.
        port: TCP port of it, for hosts that have no other.
        iqn: base name; the target of host pc1 is IQN:pc1.
        identities: how the disk of each host shows itself, by label.
        portals: address that each host logs in to, by label.
        ports: TCP port there, by label. No two hosts have both in common: every connection there
            is the host's, and ends when it is fenced.
    """

    def __init__(
        self,
        *,
        portal: IPv4Address,
        port: int,
        iqn: str,
        identities: Mapping[str, Identity] | None = None,
        portals: Mapping[str, IPv4Address] | None = None,
        ports: Mapping[str, int] | None = None,
    ) -> None:
        self._portal, self._port, self._iqn = str(portal), port, iqn
        self._ports = ports or {}
        self._portals = {label: str(address) for label, address in (portals or {}).items()}
        self._identities = identities or {}
        self._writer = Writer()
        self._backstores = Backstores(iqn, self._writer)
        self._hosts: dict[str, _Host] = {}
        self._guard = threading.Lock()
        self._door: Door | None = None
        self._commands: Commands | None = None

    # Target

    def open(self, *, deadline: Deadline) -> None:
        """As Target.open()."""
        check_kernel()
        rtslib()
        portals = {self._portal_of(label) for label in self._ports} or {(self._portal, self._port)}
        for address in {address for address, _ in portals}:
            self._check_address(address)
        self._clear(deadline)
        for label in self._identities:
            self._host(label).group.ensure(deadline)
        self._door = Door(self._groups)
        try:
            self._commands = Commands(self._iqn, self._refuse_large)
        except OSError as error:
            log.warning(
                "a guest may take all of this server's memory: how large its commands are is not "
                "known (%s); zfsiscsi doctor", error,
            )  # fmt: skip

    def close(self) -> None:
        """As Target.close()."""
        if self._door:
            self._door.close()
            self._door = None
        if self._commands:
            self._commands.close()
            self._commands = None
        try:
            self._clear(Deadline(CLOSE_TIMEOUT))
        except ZfsIscsiError as error:
            log.error("the kernel's target is not cleared: %s", error)

    def initiator(self, disk: Disk) -> str:
        """As Target.initiator()."""
        return f"{self._iqn}:{disk.host}.g{disk.generation}"

    def fence(self, host: str, *, deadline: Deadline) -> None:
        """As Target.fence()."""
        with self._held(host, deadline) as state:
            state.initiator = state.ended = ""
            state.group.fence(deadline)
            state.exported = None

    def prepare(self, disk: Disk, *, deadline: Deadline) -> None:
        """As Target.prepare()."""
        with self._held(disk.host, deadline) as state:
            state.disks.ready(_device(disk), deadline)

    def release(self, host: str, keep: Collection[Disk], *, deadline: Deadline) -> None:
        """As Target.release()."""
        with self._held(host, deadline) as state:
            kept = {_device(disk) for disk in keep} | {state.exported}
            state.disks.keep(kept, deadline)
        state.disks.close(deadline)

    def export(self, disk: Disk, credentials: Credentials, *, deadline: Deadline) -> Export:
        """As Target.export()."""
        with self._held(disk.host, deadline) as state:
            name = state.group.name
            check_names(name, credentials)
            if state.exported or state.group.acls():
                raise TargetError(f"{disk.host} is not fenced: its old disk is exported")
            backstore, lun = state.disks.ready(_device(disk), deadline)
            if backstore.is_reserved:
                log.warning("%s is reserved: it is taken anew", backstore.device)
                state.disks.part(backstore.device, deadline)
                backstore, lun = state.disks.ready(_device(disk), deadline)
            forget_reservations(state.disks.identity.serial)
            try:
                state.exported, state.initiator = backstore.device, credentials.initiator
                state.group.admit(credentials, lun, deadline)
            except BaseException:
                with contextlib.suppress(ZfsIscsiError):
                    state.group.fence(Deadline(CLOSE_TIMEOUT))
                    state.exported, state.initiator = None, ""
                raise
        return Export(*self._portal_of(disk.host), name, LUN, credentials)

    def sessions(self, host: str) -> list[Session]:
        """As Target.sessions()."""
        state, what = self._host(host), f"asking for the sessions of {host}"
        group, deadline = state.group, Deadline(_ASK_TIMEOUT)
        try:
            self._writer.settle(group.path, what, deadline)
            found = bounded(group.sessions, what, deadline)
        except (ZfsIscsiError, OSError) as error:
            raise TargetError(f"the kernel's target does not answer: {error}") from error
        initiator = state.initiator
        gone = initiator and not (group.path / "tpgt_1/acls" / initiator).is_dir()
        if gone and state.initiator == initiator:  # no fence came between
            raise TargetError(
                f"{host} is not exported any more: someone else changed the kernel's target",
                fix="the next reset exports it again",
            )
        return found

    def ended(self, host: str) -> str:
        """As Target.ended(): the kernel serves all, but for a host that has done harm."""
        return self._host(host).ended

    def _refuse_large(self, initiator: str) -> None:
        """Fence who has sent a command that no system sends; its run is told why."""
        with self._guard:
            hosts = {host.initiator: label for label, host in self._hosts.items()}
        label = hosts.get(initiator)
        if label is None:  # it is fenced by now, or somebody else's
            return
        why = f"{label} sent a command of more than {LARGEST >> 20} MiB, which no system does"
        log.warning("%s: its session is ended", why)
        try:
            with self._held(label, deadline := Deadline(CLOSE_TIMEOUT)) as state:
                if state.initiator == initiator:
                    state.initiator, state.ended = "", why
                    state.group.fence(deadline)
        except ZfsIscsiError as error:
            log.error("%s is not fenced: %s", label, error)

    # Hosts

    def _host(self, label: str) -> _Host:
        with self._guard:
            if label not in self._hosts:
                group = Group(f"{self._iqn}:{label}", self._portal_of(label), self._writer)
                disks = HostDisks(label, self._identity(label), group, self._backstores)
                self._hosts[label] = _Host(group, disks)
            return self._hosts[label]

    def _groups(self) -> dict[str, Group]:
        with self._guard:
            return {label: host.group for label, host in self._hosts.items()}

    def _identity(self, host: str) -> Identity:
        return self._identities.get(host) or Identity(made_up_serial(host))

    @contextlib.contextmanager
    def _held(self, label: str, deadline: Deadline) -> Iterator[_Host]:
        """Have a host to oneself: others are not kept waiting."""
        state, what = self._host(label), f"waiting for another change of {label}"
        with deadline.holding(state.lock, what):
            yield state

    # All of it

    def _portal_of(self, host: str) -> End:
        return self._portals.get(host, self._portal), self._ports.get(host, self._port)

    def _check_address(self, portal: str) -> None:
        """Refuse an address that this server has not: the kernel's target would take it."""
        with socket.socket() as probe:
            try:
                probe.bind((portal, 0))
            except OSError as error:
                raise TargetError(
                    f"this server has no address {portal} ({error.strerror})",
                    fix="ip -br address; [storage] portal, or that of [network:...]",
                ) from error

    def _clear(self, deadline: Deadline) -> None:
        """Remove what is ours by its names, whichever process made it, and nothing else.

        All targets at once: each waits for its login thread, which looks up ten times a second.
        """
        ours = []
        for path in entries(ISCSI):
            base, _, host = path.name.rpartition(":")  # a label has no colon
            if base == self._iqn:
                portal = portal_of(path) or self._portal_of(host)
                ours.append(partial(Group(path.name, portal, self._writer).remove, deadline))
        for removal in at_once(ours, deadline.clock, "lio-clear"):
            removal.result()
        for path in self._backstores.all():
            self._backstores.remove(path, deadline)
        with self._guard:
            self._hosts.clear()


def _device(disk: Disk) -> Path:
    return disk.path.resolve()

"""The target of one host with its one portal group: made once, then only changed."""

from __future__ import annotations

import contextlib
import logging
import secrets
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.bounded import bounded
from cuckoo_zfsiscsi.disk.target import Credentials, Session
from cuckoo_zfsiscsi.disk.target.lio_kernel import (
    ISCSI,
    entries,
    get,
    links,
    put,
    refusals,
    remove,
    remove_acl,
    remove_target,
    rtslib,
)
from cuckoo_zfsiscsi.disk.target.lio_logins import (
    End,
    Logins,
    connected,
    count_sessions,
    cut,
    last_sessions,
)
from cuckoo_zfsiscsi.disk.target.lio_writer import Writer
from cuckoo_zfsiscsi.errors import DeadlineExceededError, TargetError

log = logging.getLogger(__name__)

LUN = 0
"""As the guest sees it."""
PATIENCE = 0.2
"""Seconds after which a removal that still goes on may be waiting for a login that does not end."""
_LOOKS = 15
"""Times that, after which sessions are cut, too."""
COMMANDS = 32
"""Commands that a session may have under way: for each the kernel takes the memory of its data."""
_POLL = 0.005
_LINK = "disk"
_MOST_LUNS = 256
_ATTRIBUTES = {
    "authentication": "1",
    "generate_node_acls": "0",
    "cache_dynamic_acls": "0",
    "demo_mode_write_protect": "1",
    "prod_mode_write_protect": "0",
    "demo_mode_discovery": "0",  # tells nobody of targets that are not his
    "default_cmdsn_depth": str(COMMANDS),
}
_PARAMETERS = {
    "TargetAlias": "disk",  # LIO's says that it is LIO
    "MaxRecvDataSegmentLength": "262144",  # 8 KiB by default: slow writes
}


def portal_of(target: Path) -> End | None:
    """Return where a target is logged in to, as far as it was made."""
    for portal in entries(target / "tpgt_1/np"):
        address, _, port = portal.name.rpartition(":")
        return address, int(port)
    return None


class Group:
    """A target of the kernel.

    Args:
        name: IQN.
        portal: address and TCP port, which no other target has: all connections to it are its own.
        writer: of configfs.
    """

    def __init__(self, name: str, portal: End, writer: Writer) -> None:
        self.name = name
        self.path = ISCSI / name
        self.logins = Logins(portal)
        self._group = self.path / "tpgt_1"
        self._writer = writer
        self._refusing: list[Path] = []

    def ensure(self, deadline: Deadline) -> None:
        """Make it, or put in order what someone has changed.

        Raises:
            TargetError: refused; the portal's address and port are taken by someone else.
            DeadlineExceededError, CancelledError: not done.
        """
        if not self._is_whole():
            self._writer.change(self._make, f"making the target {self.name}", deadline)

    def _is_whole(self) -> bool:
        group = self._group
        return (
            get(group / "enable") == "1"
            and (group / "np" / "{}:{}".format(*self.logins.portal)).is_dir()
            and all(get(group / "attrib" / name) == value for name, value in _ATTRIBUTES.items())
        )

    def _make(self) -> None:
        rts = rtslib()
        target = rts.Target(rts.FabricModule("iscsi"), self.name)
        tpg = rts.TPG(target, 1)
        for name, value in _ATTRIBUTES.items():
            put(self._group / "attrib" / name, value)
        for name, value in _PARAMETERS.items():
            put(self._group / "param" / name, value)
        rts.NetworkPortal(tpg, *self.logins.portal)
        tpg.enable = True  # nothing if it is: twice is EINVAL

    # Disks, which no host can see

    def attach(self, backstore: Path, deadline: Deadline) -> int:
        """Make a LUN of a backstore, if there is none; return its number.

        Raises:
            TargetError: refused.
            DeadlineExceededError, CancelledError: not done.
        """
        for lun in self._luns(backstore):
            return int(lun.name.removeprefix("lun_"))
        what = f"attaching a disk to {self.name}"
        return self._writer.change(partial(self._attach, backstore), what, deadline)

    def _attach(self, backstore: Path) -> int:
        rts = rtslib()
        taken = {lun.name for lun in entries(self._group / "lun")}
        number = next(n for n in range(_MOST_LUNS) if f"lun_{n}" not in taken)
        index = int(backstore.parent.name.rpartition("_")[2])
        disk = rts.BlockStorageObject(backstore.name, index=index)  # looked up, not searched for
        rts.LUN(self._tpg(), number, disk, alias=_LINK)
        return number

    def detach(self, backstore: Path, deadline: Deadline) -> None:
        """Remove a backstore's LUNs.

        Raises:
            TargetError: refused.
            DeadlineExceededError, CancelledError: not done.
        """
        for lun in self._luns(backstore):
            what = f"detaching a disk from {self.name}"
            self._writer.remove(lun, partial(remove, lun), what, deadline)

    def _luns(self, backstore: Path) -> list[Path]:
        return [
            lun
            for lun in entries(self._group / "lun")
            if any(_names(link, backstore) for link in links(lun))
        ]

    # Who may log in

    def acls(self) -> list[Path]:
        """Return the ways in that there are, ours and others'."""
        return [acl for tpg in entries(self.path, "tpgt_") for acl in entries(tpg / "acls")]

    def admit(self, who: Credentials, lun: int, deadline: Deadline) -> None:
        """Let the holder of the credentials in, alone, and see this LUN, alone.

        Raises:
            TargetError: refused.
            DeadlineExceededError, CancelledError: not done; fence the host.
        """
        what = f"exporting a disk of {self.name}"
        self._writer.change(partial(self._admit, who, lun), what, deadline)

    def _admit(self, who: Credentials, lun: int) -> None:
        """As targetcli does. Without rtslib, which looks at all it has first: a host waits."""
        acl = self._group / "acls" / who.initiator
        wanted = {"userid": who.user, "password": who.secret}
        if who.reverse_user:
            wanted |= {"userid_mutual": who.reverse_user, "password_mutual": who.reverse_secret}
        acl.mkdir()
        for name, value in wanted.items():
            put(acl / "auth" / name, value)
        mapped = acl / f"lun_{LUN}"
        mapped.mkdir()
        (mapped / _LINK).symlink_to(self._group / "lun" / f"lun_{lun}")
        put(mapped / "write_protect", "0")
        told = {name: get(acl / "auth" / name) for name in wanted}
        if told != wanted or self.acls() != [acl]:
            raise TargetError(f"the kernel has other credentials for {self.name} than it was told")

    def refuse(self, deadline: Deadline) -> bool:
        """Let nobody log in any more until the next export; sessions stay. False: so it is already.

        Raises:
            TargetError: refused.
            DeadlineExceededError, CancelledError: not done.
        """
        if self._writer.under_way(self.path):
            return False
        what = f"refusing logins to {self.name}"
        with refusals(what):
            return bounded(self._refuse, what, deadline)

    def _refuse(self) -> bool:
        if (acls := self.acls()) == self._refusing:
            return False
        for acl in acls:
            put(acl / "auth/password", secrets.token_hex(8))
        self._refusing = acls
        return True

    def fence(self, deadline: Deadline) -> None:
        """Let nobody in any more, and nobody be in, nor connected.

        Raises:
            TargetError: refused.
            DeadlineExceededError, CancelledError: somebody still is.
        """
        what = f"fencing {self.name}"
        for path in self._writer.under_way(self.path):  # what an earlier fence has begun
            self._remove(path, lambda: None, what, deadline)
        for acl in self.acls():
            self._remove(acl, partial(remove_acl, acl), what, deadline)
        while self.acls() or self._is_used():
            deadline.sleep(_POLL, f"{what}: waiting for the session to end")
        self.cut(deadline)

    # Who is logged in

    def sessions(self) -> list[Session]:
        """Return every session.

        Raises:
            OSError: the kernel can't be asked.
        """
        last = last_sessions(self.path)
        if len(last) != 1:  # nobody; or someone has made another way in
            return last
        self.logins.see(connected().get(self.logins.portal, set()))
        return self.logins.sessions(last[0], self.count_sessions())

    def count_sessions(self) -> int:
        """Return how many there are, those included whose connection has just ended."""
        return count_sessions(self.path)

    def _is_used(self) -> bool:
        """Return whether someone is logged in, whoever it is."""
        groups = entries(self.path, "tpgt_")
        return self.count_sessions() > 0 or any(get(g / "dynamic_sessions") for g in groups)

    def cut(self, deadline: Deadline, which: Collection[End] | None = None) -> None:
        """Close connections to its portal.

        Args:
            deadline: for it.
            which: their other ends; None for all.
        """
        portal = self.logins.portal
        found = connected().get(portal, set())
        if which is None and found:
            log.warning(
                "cuts %d connections to %s, which do not end by themselves: from %s",
                len(found), self.name, ", ".join(sorted({end[0] for end in found})),
            )  # fmt: skip
        if found:
            cut(portal, which, deadline)

    def remove(self, deadline: Deadline) -> None:
        """Remove the target with all that is in it.

        Raises:
            TargetError: refused.
            DeadlineExceededError, CancelledError: not done.
        """
        call = partial(remove_target, self.path)
        self._remove(self.path, call, f"removing the target {self.name}", deadline)

    def _remove(self, path: Path, call: Callable[[], None], what: str, deadline: Deadline) -> None:
        """Remove something that may be waiting for a host that is off.

        A login that was begun and not ended holds its ACL: for 15 s, and for ever with Linux 6.1,
        where its time runs out only if something arrives. So it is cut, when the sessions are gone:
        these end one after the other, quickly, but 2 s later if their connections are cut
        (ISCSI_RX_THREAD_TCP_TIMEOUT); then all at once, which is better for very many.
        """
        for _ in range(_LOOKS):
            with contextlib.suppress(DeadlineExceededError):
                return self._writer.remove(path, call, what, deadline.within(PATIENCE))
            deadline.check(what)
            if not self.count_sessions():
                break
        self.cut(deadline)
        return self._writer.remove(path, call, what, deadline)

    def _tpg(self) -> object:
        rts = rtslib()
        target = rts.Target(rts.FabricModule("iscsi"), self.name, mode="lookup")
        return rts.TPG(target, 1, mode="lookup")


def _names(link: Path, backstore: Path) -> bool:
    """Return whether a LUN is of a backstore. To resolve its link takes much longer."""
    with contextlib.suppress(FileNotFoundError):
        return link.readlink().parts[-2:] == backstore.parts[-2:]
    return False

"""Who is logged in to a target of tgt, and how they are thrown out."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass

from cuckoo_zfsiscsi import connections
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.target import Session
from cuckoo_zfsiscsi.disk.target.tgt_ipc import Code, Ipc, Mode, Op, RefusedError

log = logging.getLogger(__name__)

_POLL = 0.005
_PATIENCE = 0.3
"""Seconds after which a connection that does not end by itself is cut by the kernel."""
_CONNECTION = re.compile(
    r"^Session: (\d+)\n\s+Connection: (\d+)\n\s+Initiator: (.+)\n[ \t]+(?:IP Address: (\S+))?$",
    re.M,
)
"""The address is missing when the kernel has closed the connection and tgtd does not know yet."""


@dataclass(frozen=True, slots=True)
class Login(Session):
    """A session and its connection: a session of ours has one."""

    cid: int


class Logins:
    """Logins to the targets of one tgtd."""

    def __init__(self, ipc: Ipc, portals: Sequence[str], ports: Sequence[int]) -> None:
        self._ipc = ipc
        self._own = " or ".join(f"src {portal}" for portal in dict.fromkeys(portals))
        self._ports = " or ".join(f"sport = :{port}" for port in dict.fromkeys(ports))

    def up(self, tid: int, deadline: Deadline) -> list[Login]:
        """Return who is logged in to a target.

        The ACL lets in names without line ends only: no guest can write lines of its own into
        this text, as it could into the list of all targets, by its alias.
        """
        try:
            text = self._ipc.call(Mode.CONNECTION, Op.SHOW, tid=tid, deadline=deadline)
        except RefusedError as error:
            if error.code == Code.NO_TARGET:
                return []
            raise
        return [Login(i, a, int(s), int(c)) for s, c, i, a in _CONNECTION.findall(text)]

    def drop(self, tid: int, deadline: Deadline) -> None:
        """Close every connection of a target, and wait until they are closed.

        tgtd closes one at the next thing that happens to it. When a host is cut while it reads,
        nothing happens any more but the kernel's retransmissions, for a quarter of an hour: such
        a connection is cut by the kernel.
        """
        patience = deadline.within(_PATIENCE)
        for connection in self.up(tid, deadline):
            sid, cid = connection.number, connection.cid
            self._ipc.undo(Mode.CONNECTION, Op.DELETE, tid=tid, sid=sid, cid=cid, deadline=deadline)
        while left := self.up(tid, deadline):
            deadline.sleep(_POLL, f"waiting for the session of {left[0].initiator} to end")
            if not patience.remaining:
                self._cut({connection.address for connection in left}, deadline)
                return

    def _cut(self, addresses: set[str], deadline: Deadline) -> None:
        """Let the kernel close the connections of these addresses."""
        for address in addresses - {""}:
            log.warning("cuts the connection of %s, which does not end by itself", address)
            which = f"( {self._own} ) and ( {self._ports} ) and dst {address}"
            connections.cut(which, deadline)

"""Who is logged in to a target of tgt."""

from __future__ import annotations

import re

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.target import Session
from cuckoo_zfsiscsi.disk.target.tgt_ipc import Ipc, Mode, Op

_SESSION = re.compile(
    r"^Session: (\d+)\n\s+Connection: \d+\n\s+Initiator: (.+)\n[ \t]+(?:IP Address: (\S+))?$",
    re.M,
)
"""The address is missing when the kernel has closed the connection and tgtd does not know yet."""


def logins(ipc: Ipc, tid: int, deadline: Deadline) -> list[Session]:
    """Return who is logged in to a target.

    The ACL lets in names without line ends only: no guest can write lines of its own into this
    text, as it could into the list of all targets, by its alias.

    Raises:
        TargetError, DeadlineExceededError: tgtd does not say.
    """
    text = ipc.call(Mode.CONNECTION, Op.SHOW, tid=tid, deadline=deadline)
    return [Session(name, address, int(sid)) for sid, name, address in _SESSION.findall(text)]

"""Watches the hosts' portals: ends connections that do not log in, and stops a flood of sessions.

The kernel lets in one at a time at each portal, and waits 15 s and more for whoever has connected
to go on with his login (iscsi_np, drivers/target/iscsi/iscsi_target_login.c). A host that is cut in
the middle of it leaves such a connection behind, and an infected guest can make any number: its own
system, after a reboot, could not log in. Nobody limits the sessions of one initiator either, and to
end one takes the kernel as long as a grace period of RCU, one after the other: a fence would wait
for hundreds. As each host has a portal of its own, no other host is kept waiting by any of it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Set
from contextlib import suppress
from threading import Event, Thread

from cuckoo_zfsiscsi.connections import TIMEOUT
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.target.lio_group import Group
from cuckoo_zfsiscsi.disk.target.lio_logins import End, connected
from cuckoo_zfsiscsi.errors import ZfsIscsiError

log = logging.getLogger(__name__)

PATIENCE = 3.0
"""Seconds that a login may take. It is four answers long: time to send some of it a second time."""
PERIOD = 0.25
"""Seconds between two looks: how long a flood goes on."""
MOST = 8
"""Sessions that a host may have: two at a boot, and those of earlier boots of the same run, which
the kernel finds out to be dead after 45 s."""
_NOBODY: Set[End] = frozenset()


class Door:
    """Looks at all portals, in a thread of its own.

    Args:
        groups: of all hosts, by label; called at each look.
    """

    def __init__(self, groups: Callable[[], Mapping[str, Group]]) -> None:
        self._groups = groups
        self._fine: dict[str, Set[End]] = {}
        """By host: connections that were all logged in, and need no look as long as they stay."""
        self._end = Event()
        self._thread = Thread(target=self._work, name="lio-door", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End it."""
        self._end.set()
        self._thread.join(TIMEOUT)

    def _work(self) -> None:
        while not self._end.wait(PERIOD):
            there: Mapping[End, Set[End]] = {}
            with suppress(OSError):  # the next look may see more
                there = connected()
            for label, group in self._groups().items():
                ends = there.get(group.logins.portal, _NOBODY)
                if ends != self._fine.get(label, _NOBODY):  # as nearly never
                    with suppress(OSError):
                        self._look(label, group, ends)

    def _look(self, label: str, group: Group, there: Set[End]) -> None:
        group.logins.see(there)
        sessions = group.count_sessions()
        if sessions > MOST:
            self._refuse(label, group, sessions)
        if sessions == len(there):  # if there are more, some of them have lost their connection
            self._fine[label] = frozenset(there)
        elif late := group.logins.late(sessions, PATIENCE):
            log.warning(
                "%d connections to the disk of %s, from %s, did not log in within %g s: ended",
                len(late), label, ", ".join(sorted({end[0] for end in late})), PATIENCE,
            )  # fmt: skip
            group.cut(Deadline(TIMEOUT), late)

    def _refuse(self, label: str, group: Group, sessions: int) -> None:
        with suppress(ZfsIscsiError):  # a fence may be under way
            if group.refuse(Deadline(TIMEOUT)):
                log.warning(
                    "%s has %d sessions with its disk: it can't log in any more until its next "
                    "reset", label, sessions,
                )  # fmt: skip

"""The target protocol: exports one disk to one host by iSCSI (RFC 7143), and fences it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Protocol

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.store import Disk


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who may log in: new for every generation, as the guest can read them (iBFT)."""

    initiator: str
    """Initiator IQN."""
    user: str
    secret: str = field(repr=False)
    """CHAP secret, 12 to 16 characters (RFC 7143 12.1.4; Windows' limit is 16)."""
    reverse_user: str = ""
    """By which the target proves itself to the host (mutual CHAP); "": it does not."""
    reverse_secret: str = field(default="", repr=False)
    """As `secret`, and another one (RFC 7143 9.2.1)."""


@dataclass(frozen=True, slots=True)
class Export:
    """Where a host finds its disk, and with which credentials."""

    portal: str
    """IP address."""
    port: int
    target: str
    """Target IQN."""
    lun: int
    credentials: Credentials


@dataclass(frozen=True, slots=True)
class Session:
    """An iSCSI session that is up."""

    initiator: str
    """Initiator IQN, as it logged in."""
    address: str
    """IP address of the initiator."""
    number: int
    """The target's own number of the session: a later login has another one."""


class Target(Protocol):
    """One target per host. A host without an export has no LUN, no session, no valid secret."""

    def open(self, *, deadline: Deadline) -> None:
        """Start with no export at all: those of an earlier process are gone afterwards.

        Raises:
            TargetError: it can't be started.
        """
        ...

    def close(self) -> None:
        """Drop every session and export."""
        ...

    def initiator(self, disk: Disk) -> str:
        """Return the initiator IQN that the host must use for this generation."""
        ...

    def fence(self, host: str, *, deadline: Deadline) -> None:
        """Take the disk from the host: no session is left, and the old secret is refused.

        Raises:
            TargetError: a session is still there.
        """
        ...

    def prepare(self, disk: Disk, *, deadline: Deadline) -> None:
        """Do ahead what export() of this disk needs: nobody can log in to it yet.

        In the background. An export() without it does the same, only later.

        Raises:
            TargetError: refused.
        """
        ...

    def release(self, host: str, keep: Collection[Disk], *, deadline: Deadline) -> None:
        """Let go of every disk of the host but these and the one that is exported.

        In the background: closing a disk may wait for the guest's last writes. Afterwards the
        store can drop or rename them.

        Raises:
            TargetError, DeadlineExceededError: one is still held.
        """
        ...

    def export(self, disk: Disk, credentials: Credentials, *, deadline: Deadline) -> Export:
        """Export the disk to the holder of the credentials alone. The host must be fenced.

        Raises:
            TargetError: refused, or not fenced before.
        """
        ...

    def sessions(self, host: str) -> list[Session]:
        """Return the host's sessions that are up now.

        Raises:
            TargetError: the target does not answer.
        """
        ...

    def ended(self, host: str) -> str:
        """Return how the program that serves the host's disk ended by itself; "": it did not.

        Its sessions are gone with it. The next fence and export begin anew.
        """
        ...

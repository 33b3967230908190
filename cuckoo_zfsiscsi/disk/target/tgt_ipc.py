"""The management protocol of tgtd: one request and one answer per connection of a unix socket.

tgtadm speaks it too, but takes secrets as arguments, which every user of the server can read in
the process list, and costs a process per request. Source: usr/tgtadm.h, usr/mgmt.c of tgt 1.0.85.
"""

from __future__ import annotations

import contextlib
import enum
import os
import socket
import struct
from pathlib import Path

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.target.tgt_user import acting_as
from cuckoo_zfsiscsi.errors import TargetError


class Mode(enum.IntEnum):
    """What a request is about: enum tgtadm_mode."""

    SYSTEM = 0
    TARGET = 1
    DEVICE = 2
    PORTAL = 3
    CONNECTION = 6
    ACCOUNT = 7


class Op(enum.IntEnum):
    """What to do with it: enum tgtadm_op."""

    NEW = 0
    SHOW = 2
    BIND = 3
    UPDATE = 5


# mode, op, lld, len, tid, sid, lun, cid, host_no, device_type, ac_dir, pack, force
_REQUEST = struct.Struct("@ii64sIiQQIIIIII")
_ANSWER = struct.Struct("@II")  # err, len
_MAX_ANSWER = 1 << 20


class Ipc:
    """Talks to one tgtd, and does not trust it: a guest may have taken it over.

    Args:
        path: of its socket: TGT_IPC_SOCKET and the control port. However long it is.
        user: user and group id of tgtd, which answers nobody else; None: they are ours.
    """

    def __init__(self, path: Path, user: int | None = None) -> None:
        self.path = path
        self._user = user

    def call(
        self,
        mode: Mode,
        op: Op,
        parameters: str = "",
        *,
        tid: int = 0,
        sid: int = 0,
        cid: int = 0,
        lun: int = 0,
        outgoing: bool = False,
        deadline: Deadline,
    ) -> str:
        """Make one request; return the text that came with the answer.

        Args:
            mode: what the request is about.
            op: what to do with it.
            parameters: may hold a secret: never part of an error.
            tid: target, a number.
            sid: session.
            cid: connection of the session.
            lun: logical unit.
            outgoing: an account is the target's own, by which it proves itself (ac_dir).
            deadline: of the request.

        Raises:
            TargetError: tgtd refuses, or can't be reached.
            DeadlineExceededError, CancelledError: no answer in time.
        """
        text = parameters.encode() + b"\0" if parameters else b""
        length = _REQUEST.size + len(text)
        head = _REQUEST.pack(
            mode, op, b"iscsi", length, tid, sid, lun, cid, 0, 0, int(outgoing), 0, 0
        )
        request = f"{op.name.lower()} {mode.name.lower()} {tid or ''}".rstrip()
        what = f"tgtd's answer to {request}"
        deadline.check(what)
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(max(deadline.remaining, 0.001))
                self._connect(connection)
                connection.sendall(head + text)
                code, size = _ANSWER.unpack(_receive(connection, _ANSWER.size, deadline))
                if not _ANSWER.size <= size <= _MAX_ANSWER:
                    raise TargetError(f"{what} makes no sense")
                answer = _receive(connection, size - _ANSWER.size, deadline) if not code else b""
        except TimeoutError:
            deadline.check(what)
            raise TargetError(f"{what} did not come") from None
        except OSError as error:
            raise TargetError(f"{what}: {error.strerror or error}") from None
        if code:
            raise TargetError(f"tgtd refused {request}: error {code} of its tgtadm.h")
        return answer.rstrip(b"\0").decode("utf-8", "replace")

    def _connect(self, connection: socket.socket) -> None:
        """Connect with tgtd's rights, so that its socket can be nothing that it could not reach.

        The directory is opened with ours: a tgtd's user may not pass through those above it. And a
        path of any length becomes a short one (sun_path, unix(7)).
        """
        folder = os.open(self.path.parent, os.O_PATH | os.O_DIRECTORY)
        try:
            with contextlib.nullcontext() if self._user is None else acting_as(self._user):
                connection.connect(f"/proc/self/fd/{folder}/{self.path.name}")
        finally:
            os.close(folder)


def _receive(connection: socket.socket, size: int, deadline: Deadline) -> bytes:
    received = bytearray()
    while len(received) < size:
        connection.settimeout(max(deadline.remaining, 0.001))  # who drips gains no time
        piece = connection.recv(size - len(received))
        if not piece:
            raise ConnectionResetError("tgtd closed the connection")
        received += piece
    return bytes(received)

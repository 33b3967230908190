"""The management protocol of tgtd: one request and one answer per connection of a unix socket.

tgtadm speaks it too, but takes secrets as arguments, which every user of the server can read in
the process list, and costs a process per request. Source: usr/tgtadm.h, usr/mgmt.c of tgt 1.0.85.
"""

from __future__ import annotations

import enum
import socket
import struct
from pathlib import Path

from cuckoo_zfsiscsi.deadline import Deadline
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
    DELETE = 1
    SHOW = 2
    BIND = 3
    UNBIND = 4
    UPDATE = 5


class Code(enum.IntEnum):
    """Why it was refused: enum tgtadm_errno, the ones that mean something to us."""

    NO_TARGET = 4
    NO_SESSION = 6
    NO_CONNECTION = 7
    ACL_NOEXIST = 13
    NO_USER = 15
    TARGET_ACTIVE = 19
    LUN_ACTIVE = 20


_GONE = {Code.NO_TARGET, Code.NO_SESSION, Code.NO_CONNECTION, Code.ACL_NOEXIST, Code.NO_USER}


class RefusedError(TargetError):
    """The daemon answered, with an error code."""

    def __init__(self, what: str, code: int) -> None:
        super().__init__(what)
        self.code = code


# mode, op, lld, len, tid, sid, lun, cid, host_no, device_type, ac_dir, pack, force
_REQUEST = struct.Struct("@ii64sIiQQIIIIII")
_ANSWER = struct.Struct("@II")  # err, len
_MAX_ANSWER = 16 << 20


class Ipc:
    """Talks to one tgtd.

    Args:
        path: of its socket: TGT_IPC_SOCKET and the control port.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

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
            RefusedError: tgtd's error code.
            TargetError: it can't be reached.
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
                connection.connect(str(self.path))
                connection.sendall(head + text)
                code, size = _ANSWER.unpack(_receive(connection, _ANSWER.size))
                if not _ANSWER.size <= size <= _MAX_ANSWER:
                    raise TargetError(f"{what} makes no sense")
                answer = _receive(connection, size - _ANSWER.size) if not code else b""
        except TimeoutError:
            deadline.check(what)
            raise TargetError(f"{what} did not come") from None
        except OSError as error:
            raise TargetError(f"{what}: {error.strerror or error}") from None
        if code:
            name = Code(code).name if code in set(Code) else str(code)
            raise RefusedError(f"tgtd refused {request}: {name}", code)
        return answer.rstrip(b"\0").decode("utf-8", "replace")

    def undo(
        self,
        mode: Mode,
        op: Op,
        parameters: str = "",
        *,
        tid: int = 0,
        sid: int = 0,
        cid: int = 0,
        deadline: Deadline,
    ) -> None:
        """Take something away, as call() does; it is no error when it is gone already."""
        try:
            self.call(mode, op, parameters, tid=tid, sid=sid, cid=cid, deadline=deadline)
        except RefusedError as error:
            if error.code not in _GONE:
                raise


def _receive(connection: socket.socket, size: int) -> bytes:
    received = b""
    while len(received) < size:
        piece = connection.recv(size - len(received))
        if not piece:
            raise ConnectionResetError("tgtd closed the connection")
        received += piece
    return received

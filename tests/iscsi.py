"""Two initiators for tests: libiscsi's, and one that can stop half-way through a login."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import socket
import struct
from collections.abc import Iterator
from types import TracebackType
from typing import Any

from cuckoo_zfsiscsi.disk.target import Export

SECTOR = 512
_lib = ctypes.CDLL("libiscsi.so.7")
_lib.iscsi_create_context.restype = ctypes.c_void_p
_lib.iscsi_get_error.restype = ctypes.c_char_p
for _name in ("read16", "write16", "inquiry", "synchronizecache16"):
    getattr(_lib, f"iscsi_{_name}_sync").restype = ctypes.c_void_p


_TOLD = ("TargetAlias", "TargetPortalGroupTag")
"""What a target declares: there is no answer to it (RFC 7143 13)."""


class LoginError(Exception):
    """The target refused the login."""


class Initiator:
    """A session of libiscsi, without automatic reconnection."""

    def __init__(
        self,
        export: Export,
        *,
        name: str = "",
        user: str = "",
        secret: str = "",
        reverse_secret: str = "",
    ) -> None:
        who = export.credentials
        self._lun = export.lun
        self._context = ctypes.c_void_p(_lib.iscsi_create_context((name or who.initiator).encode()))
        _lib.iscsi_set_targetname(self._context, export.target.encode())
        _lib.iscsi_set_session_type(self._context, 2)
        _lib.iscsi_set_header_digest(self._context, 0)
        _lib.iscsi_set_initiator_username_pwd(
            self._context, (user or who.user).encode(), (secret or who.secret).encode()
        )
        if who.reverse_user:
            proof = (reverse_secret or who.reverse_secret).encode()
            _lib.iscsi_set_target_username_pwd(self._context, who.reverse_user.encode(), proof)
        _lib.iscsi_set_noautoreconnect(self._context, 1)
        _lib.iscsi_set_timeout(self._context, 10)
        portal = f"{export.portal}:{export.port}".encode()
        if _lib.iscsi_full_connect_sync(self._context, portal, export.lun):
            error = LoginError(self._error())
            _lib.iscsi_destroy_context(self._context)
            raise error

    def __enter__(self) -> Initiator:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        with contextlib.suppress(OSError):
            _lib.iscsi_logout_sync(self._context)
        _lib.iscsi_destroy_context(self._context)

    def read(self, lba: int, size: int = SECTOR) -> bytes:
        offset = ctypes.c_uint64(lba)
        task = _lib.iscsi_read16_sync(self._context, self._lun, offset, size, SECTOR, 0, 0, 0, 0, 0)
        return self._result(task)

    def write(self, lba: int, data: bytes) -> None:
        offset = ctypes.c_uint64(lba)
        task = _lib.iscsi_write16_sync(
            self._context, self._lun, offset, data, len(data), SECTOR, 0, 0, 0, 0, 0
        )
        self._result(task)

    def sync(self) -> None:
        self._result(
            _lib.iscsi_synchronizecache16_sync(
                self._context, self._lun, ctypes.c_uint64(0), 0, 0, 0
            )
        )

    def inquiry(self, page: int | None = None, lun: int | None = None) -> bytes:
        lun = self._lun if lun is None else lun
        evpd = page is not None
        task = _lib.iscsi_inquiry_sync(self._context, lun, int(evpd), page or 0, 255)
        return self._result(task)

    def _error(self) -> str:
        return str(_lib.iscsi_get_error(self._context).decode())

    def _result(self, task: int | None) -> bytes:
        if not task:
            raise OSError(f"no answer: {self._error()}")
        try:
            status = ctypes.cast(task, ctypes.POINTER(ctypes.c_int))[0]
            if status:
                raise OSError(f"SCSI status {status}: {self._error()}")
            (size,) = struct.unpack_from("<i", ctypes.string_at(task, 128), 64)
            pointer = ctypes.cast(task + 72, ctypes.POINTER(ctypes.c_void_p))[0]
            return ctypes.string_at(pointer, size) if size > 0 and pointer else b""
        finally:
            _lib.scsi_free_scsi_task(ctypes.c_void_p(task))


class RawInitiator:
    """A login PDU by PDU (RFC 7143 11.12), and commands whose answers nobody reads.

    Args:
        export: where to, and as whom.
        session: its number (ISID): a login takes the place of an earlier one that has the same.
    """

    def __init__(self, export: Export, session: int = 1) -> None:
        self.export = export
        self._isid = bytes([0x80, 0, 0, 0]) + session.to_bytes(2, "big")
        self.socket = socket.socket()
        self.socket.settimeout(10)
        self._sequence = 0
        self._may_go_on = False

    def connect(self) -> None:
        self.socket.connect((self.export.portal, self.export.port))

    def begin(self) -> dict[str, str]:
        """Send the first PDU of a login; return the answer. The ACL is held from here on."""
        answer = self._login(
            0x01 | 0x00,  # current and next stage: security, no transit
            InitiatorName=self.export.credentials.initiator,
            TargetName=self.export.target,
            SessionType="Normal",
            AuthMethod="CHAP",
        )
        assert answer["AuthMethod"] == "CHAP", answer
        return answer

    def security(self) -> None:
        """Pass the ACL and CHAP: what is left of the login is the operational stage."""
        who = self.export.credentials
        self.begin()
        answer = self._login(0x01, CHAP_A="5")
        challenge = bytes.fromhex(answer["CHAP_C"].removeprefix("0x"))
        text = bytes([int(answer["CHAP_I"])]) + who.secret.encode() + challenge
        proof = hashlib.md5(text).hexdigest()  # noqa: S324 - what CHAP is
        self._login(0x81, CHAP_N=who.user, CHAP_R=f"0x{proof}")

    def finish(self, **keys: str) -> None:
        """Enter the full feature phase: the target may make proposals first, all are accepted."""
        said = {**keys, "HeaderDigest": "None", "DataDigest": "None"}
        said["MaxRecvDataSegmentLength"] = "262144"
        answer = self._login(0x87, **said)
        for _ in range(4):
            if self._may_go_on:
                return
            proposed = {key: value for key, value in answer.items() if key not in {*said, *_TOLD}}
            said |= proposed
            answer = self._login(0x87, **proposed)
        assert self._may_go_on, f"the target does not end the login: {answer}"

    def discover(self, name: str) -> bytes:
        """Log in for discovery and ask for all targets (SendTargets, RFC 7143 appendix C)."""
        self.finish(InitiatorName=name, SessionType="Discovery")
        text = b"SendTargets=All\0"
        head = struct.pack(
            ">BBHI8sIIII16x",
            0x04, 0x80, 0, len(text), bytes(8), 2, 0xFFFFFFFF, self._sequence, 1,
        )  # fmt: skip
        self.socket.sendall(head + text)
        answer = self._receive(48)
        return self._receive((int.from_bytes(answer[5:8], "big") + 3) // 4 * 4)

    def ask_much(self, megabytes: int) -> None:
        """Ask for data and read nothing of it, as a host does that loses power now."""
        for number in range(megabytes):
            command = struct.pack(">BBQIBB", 0x88, 0, 0, 2048, 0, 0)
            head = struct.pack(
                ">BBHI8sIIII16s",
                0x01, 0xC0, 0, 0, bytes([0, self.export.lun, *bytes(6)]),
                number + 1, 1 << 20, self._sequence, 1, command,
            )  # fmt: skip
            self.socket.sendall(head)
            self._sequence += 1

    def write(self, expected: int, data: bytes, *, unsolicited: bytes = b"") -> None:
        """Ask to write so many bytes, and send others, of which the answer is not read.

        Args:
            expected: bytes that the command promises (RFC 7143 11.3.4).
            data: immediate: in the command itself.
            unsolicited: in a PDU of its own that nobody has asked for (RFC 7143 11.7).
        """
        lun = bytes([0, self.export.lun, *bytes(6)])
        command = struct.pack(">BBQIBB", 0x8A, 0, 0, expected // SECTOR, 0, 0)
        flags = 0x21 if unsolicited else 0xA1  # a write; whether it is all
        tag = self._sequence + 1
        head = struct.pack(
            ">BBHI8sIIII16s",
            0x01, flags, 0, len(data), lun, tag, expected, self._sequence, 1, command,
        )  # fmt: skip
        self.socket.sendall(head + data + bytes(-len(data) % 4))
        self._sequence += 1
        if unsolicited:
            head = struct.pack(
                ">BBHI8sIIIIIII4x",
                0x05, 0x80, 0, len(unsolicited), lun, tag, 0xFFFFFFFF, 0, 1, 0, 0, 0,
            )  # fmt: skip
            self.socket.sendall(head + unsolicited)

    def close(self) -> None:
        self.socket.close()

    def _login(self, flags: int, **keys: str) -> dict[str, str]:
        text = b"".join(f"{key}={value}\0".encode() for key, value in keys.items())
        stage = {0x01: 0x00, 0x81: 0x81, 0x87: 0x87}[flags]
        head = struct.pack(
            ">BBBB4s6sHIHHII16x",
            0x43, stage, 0, 0, len(text).to_bytes(4, "big"), self._isid, 0,
            1, 0, 0, self._sequence, 0,
        )  # fmt: skip
        self.socket.sendall(head + text + bytes(-len(text) % 4))
        answer = self._receive(48)
        body = self._receive((int.from_bytes(answer[5:8], "big") + 3) // 4 * 4)
        self._may_go_on = bool(answer[1] & 0x80)
        if answer[36]:
            raise LoginError(f"status {answer[36]:02x}{answer[37]:02x}")
        pairs = [item.split("=", 1) for item in body.decode().strip("\0").split("\0") if item]
        return {pair[0]: pair[1] for pair in pairs}

    def _receive(self, size: int) -> bytes:
        received = b""
        while len(received) < size:
            piece = self.socket.recv(size - len(received))
            if not piece:
                raise LoginError("the target closed the connection")
            received += piece
        return received


@contextlib.contextmanager
def raw(export: Export, session: int = 1) -> Iterator[RawInitiator]:
    initiator = RawInitiator(export, session)
    try:
        initiator.connect()
        yield initiator
    finally:
        initiator.close()


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address: Any = probe.getsockname()
        return int(address[1])

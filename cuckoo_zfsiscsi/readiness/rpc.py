"""RPC: a DCE/RPC bind to the endpoint mapper (TCP 135) is accepted.

The paper's sign of a booted Windows. PDUs as in C706 chapter 12 and MS-RPCE 2.2.2.
"""

from __future__ import annotations

import io
import struct
import uuid

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.readiness import Answer
from cuckoo_zfsiscsi.readiness.attempt import attempt
from cuckoo_zfsiscsi.readiness.stream import GuestError, GuestStream

PORT = 135
MAX_FRAGMENT = 4280
"""Bytes; what Windows offers, and far more than a bind_ack for one context."""

EPM = struct.pack("<16sHH", uuid.UUID("e1af8308-5d1f-11c9-91a4-08002b14a0fa").bytes_le, 3, 0)
NDR = struct.pack("<16sI", uuid.UUID("8a885d04-1ceb-11c9-9fe8-08002b104860").bytes_le, 2)

HEADER = struct.Struct("<BBBBIHHI")
"""Version, minor, type, flags, data representation, fragment length, auth length, call id."""
LITTLE_ENDIAN = 0x10
WHOLE = 0x03
"""First and last fragment."""
BIND, BIND_ACK, BIND_NAK = 11, 12, 13
CALL = 1


def probe(address: str, port: int = PORT, *, deadline: Deadline) -> Answer:
    """Bind once (Probe)."""

    def ask() -> str:
        with GuestStream(address, port, limit=MAX_FRAGMENT, deadline=deadline) as stream:
            stream.sendall(bind())
            return judge(*_receive(stream.makefile()))

    return attempt(ask)


def bind() -> bytes:
    """Return the PDU that asks for the endpoint mapper."""
    context = struct.pack("<BxxxHBx", 1, 0, 1) + EPM + NDR
    body = struct.pack("<HHI", MAX_FRAGMENT, MAX_FRAGMENT, 0) + context
    size = HEADER.size + len(body)
    return HEADER.pack(5, 0, BIND, WHOLE, LITTLE_ENDIAN, size, 0, CALL) + body


def _receive(reader: io.BufferedReader) -> tuple[int, bytes]:
    """Read one PDU; return its type and body."""
    header = reader.read(HEADER.size)
    if len(header) < HEADER.size:
        raise GuestError(f"closed after {len(header)} bytes: not RPC")
    version, minor, kind, flags, representation, size, auth, call = HEADER.unpack(header)
    if (version, representation, auth, call) != (5, LITTLE_ENDIAN, 0, CALL) or minor > 1:
        raise GuestError(f"not RPC: {header[:16]!r}")
    if flags & WHOLE != WHOLE or not HEADER.size < size <= MAX_FRAGMENT:
        raise GuestError(f"not one RPC fragment: flags {flags:#x}, {size} bytes")
    body = reader.read(size - HEADER.size)
    if len(body) < size - HEADER.size:
        raise GuestError(f"RPC fragment of {size} bytes ended after {HEADER.size + len(body)}")
    return kind, body


def judge(kind: int, body: bytes) -> str:
    """Say that the one context was accepted.

    Raises:
        GuestError: it was not.
    """
    if kind == BIND_NAK:
        raise GuestError(f"RPC refuses the bind (bind_nak): {body[:2].hex()}")
    if kind != BIND_ACK:
        raise GuestError(f"RPC answers a bind with PDU type {kind}")
    try:
        (address_size,) = struct.unpack_from("<H", body, 8)
        results = (HEADER.size + 10 + address_size + 3) // 4 * 4 - HEADER.size  # aligned in the PDU
        count, result, reason, syntax = struct.unpack_from("<BxxxHH20s", body, results)
    except struct.error:
        raise GuestError("RPC bind_ack is too short") from None
    if (count, result, syntax) != (1, 0, NDR):
        raise GuestError(
            f"RPC does not accept the endpoint mapper: {count} results, first {result}/{reason}"
        )
    return "endpoint mapper accepts a bind"

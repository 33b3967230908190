"""CAPE's agent: GET / on TCP 8000 answers with its name and version in JSON.

http.client, not requests: no proxy, no redirect, and over our own stream, as the timeouts of
requests begin again with each byte.
"""

from __future__ import annotations

import http.client
import json
import socket
from typing import cast

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.readiness import Answer
from cuckoo_zfsiscsi.readiness.attempt import attempt
from cuckoo_zfsiscsi.readiness.stream import GuestError, GuestStream

PORT = 8000
MAX_ANSWER = 64 * 1024
"""Bytes, with the headers; the real one is about 300."""
GREETING = "CAPE Agent!"


def probe(address: str, port: int = PORT, *, deadline: Deadline) -> Answer:
    """Ask once (Probe)."""

    def ask() -> str:
        with GuestStream(address, port, limit=MAX_ANSWER, deadline=deadline) as stream:
            stream.sendall(b"GET / HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n")
            response = http.client.HTTPResponse(cast(socket.socket, stream), method="GET")
            try:
                response.begin()
                # With a size: it would set aside as much memory as Content-Length says.
                body = response.read(MAX_ANSWER)
            except http.client.HTTPException as error:
                raise GuestError(f"not HTTP: {type(error).__name__}") from None
        return judge(response.status, body)

    return attempt(ask)


def judge(status: int, body: bytes) -> str:
    """Say what answered.

    Raises:
        GuestError: not the agent.
    """
    if status != http.client.OK:
        raise GuestError(f"HTTP status {status}")
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        raise GuestError("no JSON in its answer") from None
    message = answer.get("message") if isinstance(answer, dict) else None
    if not isinstance(message, str) or not message.startswith(GREETING):
        raise GuestError(f"not CAPE's agent: message {str(message)[:60]!r}")
    return f"{GREETING} {str(answer.get('version', ''))[:20]!r}"

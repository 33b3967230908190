"""CAPE's agent on TCP 8000: GET / answers with its name and version, POST /execute runs a program.

http.client, not requests: no proxy, no redirect, and over our own stream, as the timeouts of
requests begin again with each byte.
"""

from __future__ import annotations

import http.client
import json
import shlex
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlencode

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.readiness import Answer
from cuckoo_zfsiscsi.readiness.attempt import attempt
from cuckoo_zfsiscsi.readiness.stream import GuestError, GuestStream

PORT = 8000
MAX_ANSWER = 64 * 1024
"""Bytes, with the headers; the real one is about 300, and what a program has printed."""
GREETING = "CAPE Agent!"


@dataclass(frozen=True, slots=True)
class Output:
    """What a program in the guest has printed. The agent does not tell how it ended."""

    stdout: str
    stderr: str


def probe(address: str, port: int = PORT, *, deadline: Deadline) -> Answer:
    """Ask once (Probe)."""
    return attempt(lambda: judge(*_ask(address, port, "GET", "/", deadline=deadline)))


def execute(address: str, port: int, command: Sequence[str], *, deadline: Deadline) -> Output:
    """Have the agent run a program, with its own rights, and wait for the end of it.

    Args:
        address: IP address of the guest.
        port: of its agent.
        command: program and arguments. No shell reads them: the agent splits them as shlex does.
        deadline: for all of it. The program goes on when it is over.

    Raises:
        GuestError: the agent does not answer, or has not run it.
        DeadlineExceededError, CancelledError: given up.
    """
    form = urlencode({"command": shlex.join(command)})
    status, body = _ask(address, port, "POST", "/execute", form, deadline=deadline)
    answer = _parse(status, body)
    return Output(_text(answer, "stdout"), _text(answer, "stderr"))


def judge(status: int, body: bytes) -> str:
    """Say what answered.

    Raises:
        GuestError: not the agent.
    """
    answer = _parse(status, body)
    message = answer.get("message")
    if not isinstance(message, str) or not message.startswith(GREETING):
        raise GuestError(f"not CAPE's agent: message {str(message)[:60]!r}")
    return f"{GREETING} {str(answer.get('version', ''))[:20]!r}"


def _ask(
    address: str, port: int, method: str, path: str, form: str = "", *, deadline: Deadline
) -> tuple[int, bytes]:
    """Return status and body of the answer."""
    head = f"{method} {path} HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n"
    if form:
        head += "Content-Type: application/x-www-form-urlencoded\r\n"
        head += f"Content-Length: {len(form)}\r\n"
    with GuestStream(address, port, limit=MAX_ANSWER, deadline=deadline) as stream:
        stream.sendall(f"{head}\r\n{form}".encode())
        response = http.client.HTTPResponse(cast(socket.socket, stream), method=method)
        try:
            response.begin()
            # With a size: it would set aside as much memory as Content-Length says.
            return response.status, response.read(MAX_ANSWER)
        except http.client.HTTPException as error:
            raise GuestError(f"not HTTP: {type(error).__name__}") from None


def _parse(status: int, body: bytes) -> dict[str, Any]:
    """Return the JSON object of the answer; empty if it is something else.

    Raises:
        GuestError: no JSON, or the agent has failed.
    """
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        answer = None
    found = answer if isinstance(answer, dict) else {}
    if status != http.client.OK:
        said = _text(found, "message")[:100]
        raise GuestError(f"HTTP status {status}" + (f": {said!r}" if said else ""))
    if answer is None:
        raise GuestError("no JSON in its answer")
    return found


def _text(answer: dict[str, Any], key: str) -> str:
    value = answer.get(key)
    return value if isinstance(value, str) else ""

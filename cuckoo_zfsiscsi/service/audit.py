"""The audit log: who changed what, and what came of it; one line for each change.

A logger of its own, `cuckoo_zfsiscsi.audit`, which nothing else writes to and no limit cuts:
`journalctl -u zfsiscsi | grep cuckoo_zfsiscsi.audit`. A line is written when the answer is sent, or
when nobody waits for it any more. What only looks changes nothing, and is not in it.
"""

from __future__ import annotations

import logging
import re
import time
from dataclasses import dataclass
from http import HTTPStatus

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cuckoo_zfsiscsi.text import shown

NAME = "cuckoo_zfsiscsi.audit"
LOOKS = ("GET", "HEAD", "OPTIONS")
"""Methods that change nothing (RFC 9110, 9.2.1)."""
LONGEST = 300
"""Characters of one part of a line."""
API = "/v1/"
"""Bodies below it are written down: they hold no secret. The dashboard's forms do."""
_OF_A_HOST = re.compile(r"(?:/v1)?/hosts/([^/]+)/([a-z]+)")

log = logging.getLogger(NAME)


@dataclass(slots=True)
class Entry:
    """One change that is under way."""

    who: str | None = None
    """Who asks for it, once that is proved: nobody else has a line. "": who has the socket."""
    asked: str = ""
    """What was asked for beside the verb."""


def allow(request: HTTPConnection, who: str, asked: str = "") -> None:
    """Note who asks, now that it is proved who that is, and what for."""
    entry = request.scope.get("state", {}).get("audit")
    if entry is not None:
        entry.who = who
        entry.asked = asked or entry.asked


def write(
    who: str, what: str, result: str, *, at: str = "", host: str = "", asked: str = ""
) -> None:
    """Write one line.

    Args:
        who: asks for it.
        what: is asked for.
        result: what came of it.
        at: address that it is asked from.
        host: that it is about.
        asked: in the words of who asks; the last of the line, so that they pass for nothing else.
    """
    parts = {"who": who, "from": at, "what": what, "host": host, "result": result, "asked": asked}
    log.info(" ".join(f"{name}={_quoted(part)}" for name, part in parts.items() if part))


def _quoted(text: str) -> str:
    text = shown(text, LONGEST).replace('"', "'")
    return text if re.fullmatch(r"[\w.:/-]+", text) else f'"{text}"'


class Audit:
    """ASGI middleware that writes a line for each request that may change something.

    Args:
        app: answers. It calls allow() when it knows who asks.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or scope["method"] in LOOKS:
            await self._app(scope, receive, send)
            return
        entry, status, body = Entry(), 0, b""
        scope.setdefault("state", {})["audit"] = entry

        async def take() -> Message:
            nonlocal body
            message = await receive()
            if len(body) <= LONGEST and scope["path"].startswith(API):
                body += message.get("body", b"")[: LONGEST + 1]
            return message

        async def answer(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        begin = time.monotonic()
        try:
            await self._app(scope, take, answer)
        finally:
            if entry.who is not None:
                found = _OF_A_HOST.fullmatch(scope["path"])
                host, what = found.groups() if found else ("", scope["path"].strip("/"))
                client = scope.get("client")
                result = f"{status} {HTTPStatus(status).phrase}" if status else "none"
                write(
                    " of ".join(filter(None, (entry.who, scope["state"].get("peer")))) or "unknown",
                    what,
                    f"{result}, {time.monotonic() - begin:.1f} s",
                    at=client[0] if client else "",
                    host=host,
                    asked=entry.asked or body.decode("utf-8", "replace"),
                )

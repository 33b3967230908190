"""The bodies of requests to the control port: no longer than any of ours."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cuckoo_zfsiscsi.service.problem import problem

MOST = 64 << 10
"""Bytes; the longest that we send ourselves has some hundred."""


class BoundedBody:
    """ASGI middleware that refuses a body that is too long, before it is kept anywhere.

    Args:
        app: answers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        taken, has_begun = 0, False

        async def take() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > MOST:
                raise HTTPException(413)
            return message

        async def answer(message: Message) -> None:
            nonlocal has_begun
            if has_begun or taken <= MOST:  # else it is what the application makes of half a body
                has_begun = True
                await send(message)

        if _declared(scope) <= MOST:
            try:
                await self._app(scope, take, answer)
            except Exception:  # whatever has become of ours on its way
                if taken <= MOST:
                    raise
            if has_begun or taken <= MOST:
                return
        refused = problem(
            Request(scope),
            413,
            "content-too-large",
            f"the body is longer than {MOST} bytes",
            "see /docs for what is taken",
            Connection="close",  # else what is left of it would be read, and thrown away
        )
        await refused(scope, receive, send)


def _declared(scope: Scope) -> int:
    """Return the length that a request says; 0 if it says none. h11 has checked it."""
    given = dict(scope["headers"]).get(b"content-length", b"0")
    return int(given) if given.isdigit() else 0

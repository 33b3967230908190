"""Lets in who is logged in, and takes forms from the dashboard's own pages alone."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from urllib.parse import parse_qs

from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from cuckoo_zfsiscsi.errors import ZfsIscsiError
from cuckoo_zfsiscsi.service import audit
from cuckoo_zfsiscsi.service.admission import address_of, admit
from cuckoo_zfsiscsi.service.attempts import Attempts
from cuckoo_zfsiscsi.service.dashboard.render import render
from cuckoo_zfsiscsi.service.dashboard.sessions import COOKIE, Session, Sessions, set_cookie

MAX_FORM = 4096
"""Bytes."""

Form = dict[str, str]
Handler = Callable[[Request, Session], Awaitable[Response]]
FormHandler = Callable[[Request, Session, Form], Awaitable[Response]]
Endpoint = Callable[[Request], Awaitable[Response]]


class Gate:
    """Turns what answers a session into what answers a request.

    Args:
        sessions: of all browsers.
        attempts: counts wrong tokens.
    """

    def __init__(self, sessions: Sessions, attempts: Attempts) -> None:
        self.sessions = sessions
        self._attempts = attempts

    def routes(self) -> list[Route]:
        """Return those of logging in and out."""
        return [
            Route("/login", self._login, methods=["GET", "POST"]),
            Route("/logout", self.form(self._logout), methods=["POST"]),
        ]

    def page(self, handler: Handler, *, part: bool = False) -> Endpoint:
        """Return the endpoint of a page, or of a part of one that a script asks for."""

        async def endpoint(request: Request) -> Response:
            session = self.sessions.find(request)
            if session is None and self.sessions.open:
                session = self.sessions.log_in("")
            if session is None:
                return _out("log in again", 401) if part else RedirectResponse("/login", 303)
            admit(request)
            try:
                response = await handler(request, session)
            except ZfsIscsiError as error:
                response = problem(session, error)
            if request.cookies.get(COOKIE) != session.key:
                set_cookie(request, response, session)
            return response

        return endpoint

    def form(self, handler: FormHandler) -> Endpoint:
        """Return the endpoint of a form; only a page of this session can have sent it."""

        async def endpoint(request: Request) -> Response:
            session = self.sessions.find(request)
            if session is None:
                return RedirectResponse("/login", 303)
            form = await _read(request)
            if not secrets.compare_digest(form.get("form", "").encode(), session.form.encode()):
                return _out("this form is not from here, or too old: go back and try again", 403)
            admit(request)
            asked = ", ".join(f"{name} {value}" for name, value in form.items() if name != "form")
            audit.allow(request, f"session {session.name}", asked)
            try:
                return await handler(request, session, form)
            except ZfsIscsiError as error:
                return problem(session, error)

        return endpoint

    async def _login(self, request: Request) -> Response:
        if self.sessions.open or self.sessions.find(request):
            return RedirectResponse("/", 303)
        if request.method == "GET":
            return HTMLResponse(render("login.html", wrong=False))
        session = self.sessions.log_in((await _read(request)).get("token", "").strip())
        if session is None:
            if not await self._attempts.punish(address_of(request), "dashboard"):
                return _out("too many wrong tokens at a time: try again", 429)
            return HTMLResponse(render("login.html", wrong=True), 401)
        admit(request)
        audit.allow(request, f"session {session.name}")
        response = RedirectResponse("/", 303)
        set_cookie(request, response, session)
        return response

    async def _logout(self, _request: Request, session: Session, _form: Form) -> Response:
        self.sessions.end(session)
        response = RedirectResponse("/login", 303)
        response.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return response


def problem(session: Session, error: ZfsIscsiError) -> Response:
    """Return the page of an error: what, and what to do next."""
    page = render("problem.html", session=session, error=error)
    return HTMLResponse(page, error.status)


def _out(text: str, status: int) -> Response:
    return HTMLResponse(render("out.html", text=text), status)


async def _read(request: Request) -> Form:
    """Return the fields of a form; none if there are too many, or too much of it."""
    body = b""
    try:
        async for part in request.stream():
            body += part
            if len(body) > MAX_FORM:
                return {}
        fields = parse_qs(body.decode("utf-8", "replace"), max_num_fields=20)
    except (ClientDisconnect, ValueError):
        return {}
    return {name: values[-1] for name, values in fields.items()}

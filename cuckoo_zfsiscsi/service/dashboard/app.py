"""The application that the control listener serves: dashboard and, below it, the control API."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from cuckoo_zfsiscsi.service.attempts import Attempts
from cuckoo_zfsiscsi.service.audit import Audit
from cuckoo_zfsiscsi.service.body import BoundedBody
from cuckoo_zfsiscsi.service.dashboard.actions import Actions
from cuckoo_zfsiscsi.service.dashboard.feed import Feed
from cuckoo_zfsiscsi.service.dashboard.gate import Gate
from cuckoo_zfsiscsi.service.dashboard.headers import Headers
from cuckoo_zfsiscsi.service.dashboard.pages import Pages
from cuckoo_zfsiscsi.service.dashboard.reference import reference
from cuckoo_zfsiscsi.service.dashboard.render import STATIC
from cuckoo_zfsiscsi.service.dashboard.sessions import Sessions

if TYPE_CHECKING:
    from cuckoo_zfsiscsi.service.fleet import Fleet

LOCAL = ["localhost", "127.0.0.1"]


class _Static(StaticFiles):
    """Files of ours, which browsers may keep: their addresses change with their content."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        return response


def make_app(
    fleet: Fleet, api: FastAPI, token: str | None, feed: Feed, attempts: Attempts | None = None
) -> Starlette:
    """Return the application.

    Args:
        fleet: opened.
        api: answers everything that is not the dashboard's, and guards itself.
        token: as for the API; None where a unix socket guards.
        feed: of the fleet.
        attempts: counts wrong tokens; alone if left out.
    """
    gate = Gate(Sessions(token), attempts or Attempts())
    pages, actions = Pages(fleet, feed, gate), Actions(fleet, gate)

    async def docs(_request: Request) -> Response:
        return HTMLResponse(reference(api.openapi()))

    middleware = [Middleware(Audit), Middleware(BoundedBody), Middleware(Headers)]
    if token is None:
        # Who forwards the socket to a port must not have it opened by a foreign page under
        # another name (DNS rebinding).
        middleware.append(Middleware(TrustedHostMiddleware, allowed_hosts=LOCAL))
    return Starlette(
        routes=[
            *gate.routes(),
            *pages.routes(),
            *actions.routes(),
            Route("/docs", docs),
            Mount("/static", _Static(directory=STATIC)),
            Mount("/", api),
        ],
        middleware=middleware,
    )

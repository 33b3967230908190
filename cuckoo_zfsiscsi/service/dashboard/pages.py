"""The pages: all hosts, one host, storage; and the stream that keeps them up to date."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from cuckoo_zfsiscsi.service.dashboard import feed as feeds
from cuckoo_zfsiscsi.service.dashboard import views
from cuckoo_zfsiscsi.service.dashboard.gate import Gate
from cuckoo_zfsiscsi.service.dashboard.render import render
from cuckoo_zfsiscsi.service.dashboard.sessions import Session

if TYPE_CHECKING:
    from cuckoo_zfsiscsi.service.fleet import Fleet

RUNS, EVENTS = 10, 25
"""How many a host's page shows."""


class Pages:
    """What can be looked at.

    Args:
        fleet: opened.
        feed: of the fleet.
        gate: lets people in.
    """

    def __init__(self, fleet: Fleet, feed: feeds.Feed, gate: Gate) -> None:
        self._fleet = fleet
        self._feed = feed
        self._gate = gate

    def routes(self) -> list[Route]:
        """Return them."""
        page = self._gate.page
        return [
            Route("/", page(self._hosts)),
            Route("/hosts/{label}", page(self._host)),
            Route("/hosts/{label}/live", page(self._host_live, part=True)),
            Route("/storage", page(self._storage)),
            Route("/storage/live", page(self._storage_live, part=True)),
            Route("/events", page(self._events, part=True)),
        ]

    async def _hosts(self, _request: Request, session: Session) -> Response:
        await asyncio.to_thread(self._feed.look)
        since, summary, cards = self._feed.page()
        page = render("hosts.html", session=session, since=since, summary=summary, cards=cards)
        return HTMLResponse(page)

    async def _host(self, request: Request, session: Session) -> Response:
        label = request.path_params["label"]
        found = await asyncio.to_thread(self._about, label)
        await asyncio.to_thread(self._feed.look)
        since = self._feed.page()[0]
        message, session.message = session.message, ""
        page = render("host.html", session=session, since=since, message=message, **found)
        return HTMLResponse(page)

    async def _host_live(self, request: Request, _session: Session) -> Response:
        found = await asyncio.to_thread(self._about, request.path_params["label"])
        return HTMLResponse(render("_host.html", **found))

    async def _storage(self, _request: Request, session: Session) -> Response:
        report = await asyncio.to_thread(self._fleet.storage.report)
        return HTMLResponse(render("storage.html", session=session, storage=report))

    async def _storage_live(self, _request: Request, _session: Session) -> Response:
        report = await asyncio.to_thread(self._fleet.storage.report)
        return HTMLResponse(render("_storage.html", storage=report))

    async def _events(self, request: Request, session: Session) -> Response:
        if self._feed.viewers >= feeds.MOST:
            return PlainTextResponse("too many viewers\n", 503)
        since = request.headers.get("last-event-id") or request.query_params.get("since", "")
        host = request.query_params.get("host")

        def allowed() -> bool:
            return self._gate.sessions.find(request) is session

        stream: AsyncIterator[bytes] = self._feed.stream(since, host, allowed)
        return StreamingResponse(
            stream,
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )

    def _about(self, label: str) -> dict[str, Any]:
        """Return all that a host's page shows. Waits."""
        fleet = self._fleet
        host = fleet.host(label)
        report, recoveries = host.report(), fleet.recent.recoveries(label)
        takes = fleet.recent.boot_takes(label)
        storage = fleet.storage.report()
        events = fleet.history.events(host=label, limit=EVENTS)
        return {
            "host": views.card(report, host.config, recoveries, takes),
            "config": host.config,
            "boot": report.last_boot,
            "bars": views.timeline(report.last_boot) if report.last_boot else [],
            "runs": fleet.history.find(host=label, limit=RUNS),
            "events": events,
            "power": next((event for event in events if event.kind == "power"), None),
            "evidence": [one for one in storage.evidence if one.host == label][::-1],
            "spares": storage.spares.get(label),
        }

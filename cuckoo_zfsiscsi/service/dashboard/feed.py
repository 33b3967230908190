"""What changes on the dashboard, for all who watch: looked up once, rendered once, sent to each.

Hosts are looked at twice a second while anyone watches. Each card has the number of the change that
made it; a viewer says the last number it has seen and gets what is newer, so a slow one misses
nothing and nothing waits for it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, get_args

from cuckoo_zfsiscsi.isolation import NetworkIsolation
from cuckoo_zfsiscsi.isolation import State as Isolation
from cuckoo_zfsiscsi.service.dashboard import views
from cuckoo_zfsiscsi.service.dashboard.render import render
from cuckoo_zfsiscsi.service.report import HostReport, State

if TYPE_CHECKING:
    from cuckoo_zfsiscsi.service.fleet import Fleet

LOOK = 0.5
"""Seconds between two looks."""
HEARTBEAT = 15.0
"""Seconds after which something is sent though nothing has changed: else proxies give up."""
PATIENCE = 1.0
"""Seconds that a page waits for a look that another one has begun."""
MOST = 64
"""Viewers at a time."""

log = logging.getLogger(__name__)


class Feed:
    """The cards of all hosts, as they are now, and the stream of their changes.

    Args:
        fleet: opened before the first look.
    """

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._turn = threading.Lock()
        """Of who looks, which may take long."""
        self._lock = threading.Lock()
        """Of what was found: never held while something is waited for; the event loop takes it."""
        self._seen: dict[str, tuple[HostReport, list[float]]] = {}
        self._cards: dict[str, tuple[int, str]] = {}
        self._summary = (0, "")
        self._serial = 0
        self._epoch = secrets.token_hex(4)
        """Of this process: numbers of another one mean nothing."""
        self._changed = asyncio.Event()
        self._closed = False
        self._looking: asyncio.Task[None] | None = None
        self._frame: tuple[tuple[int, int], bytes] = ((0, 0), b"")
        self.viewers = 0

    def look(self) -> None:
        """Look at all hosts, and render what is different now. Waits for their locks.

        If another one looks already, it waits for that for a while, and leaves it at that.
        """
        if not self._turn.acquire(timeout=PATIENCE):
            return
        try:
            cards, reports = {}, []
            for host in self._fleet.hosts():
                report, label = host.report(), host.config.label
                reports.append(report)
                seen = (report, self._fleet.recent.recoveries(label))
                if self._seen.get(label) != seen:
                    self._seen[label] = seen
                    takes = self._fleet.recent.boot_takes(label)
                    view = views.card(report, host.config, seen[1], takes)
                    cards[label] = render("_card.html", host=view)
            self._take(cards, _summary(reports, self._fleet.isolation.report()))
        finally:
            self._turn.release()

    def _take(self, cards: dict[str, str], summary: str) -> None:
        with self._lock:
            serial = self._serial + 1
            for label, html in cards.items():
                if self._cards.get(label, (0, ""))[1] != html:
                    self._cards[label] = (serial, html)
                    self._serial = serial
            if self._summary[1] != summary:
                self._summary = (serial, summary)
                self._serial = serial

    def page(self) -> tuple[str, str, list[str]]:
        """Return the number of the last change, the summary, and all cards."""
        with self._lock:
            return self._name(), self._summary[1], [html for _, html in self._cards.values()]

    def close(self) -> None:
        """End all streams."""
        self._closed = True
        self._changed.set()

    async def stream(
        self, since: str, host: str | None, allowed: Callable[[], bool]
    ) -> AsyncIterator[bytes]:
        """Yield server-sent events for as long as the viewer is there.

        Args:
            since: number of the last change that it has; "" for none.
            host: it watches this host alone, and is only told that something changed.
            allowed: whether it still may watch.
        """
        serial = self._number(since)
        self.viewers += 1
        if self._looking is None or self._looking.done():
            self._changed = asyncio.Event()  # of this loop; nobody waits for the old one
            self._looking = asyncio.create_task(self._keep_looking())
        try:
            yield b"retry: 2000\n\n"
            while not self._closed and allowed():
                changed = self._changed
                serial, frame = self._since(serial, host)
                if frame:
                    yield frame
                    continue
                try:
                    await asyncio.wait_for(changed.wait(), HEARTBEAT)
                except asyncio.TimeoutError:
                    yield b":\n\n"
        finally:
            self.viewers -= 1

    async def _keep_looking(self) -> None:
        while self.viewers and not self._closed:
            before = self._serial
            try:
                await asyncio.to_thread(self.look)
            except Exception:
                log.exception("the hosts can't be looked at")
            if self._serial != before:
                changed, self._changed = self._changed, asyncio.Event()
                changed.set()
            await asyncio.sleep(LOOK)

    def _since(self, serial: int, host: str | None) -> tuple[int, bytes]:
        """Return the number of now and what is newer than another one, as one event."""
        with self._lock:
            now = self._serial
            if now == serial:
                return now, b""
            if host is not None:
                if self._cards.get(host, (0, ""))[0] <= serial:
                    return now, b""
                return now, f"id: {self._name()}\ndata: {{}}\n\n".encode()
            if self._frame[0] != (serial, now):  # most viewers have seen the same
                cards = {one: html for one, (at, html) in self._cards.items() if at > serial}
                data: dict[str, object] = {"now": time.time(), "cards": cards}
                if self._summary[0] > serial:
                    data["summary"] = self._summary[1]
                text = f"id: {self._name()}\ndata: {json.dumps(data)}\n\n"
                self._frame = ((serial, now), text.encode())
            return now, self._frame[1]

    def _name(self) -> str:
        return f"{self._epoch}-{self._serial}"

    def _number(self, name: str) -> int:
        epoch, _, number = name.partition("-")
        known = epoch == self._epoch and number.isascii() and number.isdigit()
        return int(number[:12]) if known else 0


def _summary(reports: list[HostReport], networks: list[NetworkIsolation]) -> str:
    counts = Counter(report.state for report in reports)
    states = [(state.value, views.SIGNS[state], counts[state]) for state in State]
    trouble = [report.label for report in reports if report.state is State.QUARANTINED]
    known = [(state, [n for n in networks if n.state == state]) for state in get_args(Isolation)]
    return render(
        "_summary.html", states=states, total=len(reports), trouble=trouble, networks=known
    )

"""The stream of changes: nothing missed, nothing twice, nothing for who may not watch."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from cuckoo_zfsiscsi.service.dashboard import feed as feeds
from cuckoo_zfsiscsi.service.dashboard.feed import Feed
from cuckoo_zfsiscsi.service.host import Host
from tests.service.many_hosts import ManyHosts

if TYPE_CHECKING:
    from cuckoo_zfsiscsi.service.fleet import Fleet


@pytest.fixture
def many(tmp_path: Path) -> Iterator[ManyHosts]:
    made = ManyHosts(5, tmp_path, {"rpc": 0.1, "agent": 0.2})
    made.open()
    yield made
    made.close()


@pytest.fixture
def feed(many: ManyHosts, monkeypatch: pytest.MonkeyPatch) -> Feed:
    monkeypatch.setattr(feeds, "LOOK", 0.02)
    made = Feed(cast("Fleet", many))
    made.look()
    return made


async def events(stream: AsyncIterator[bytes]) -> AsyncIterator[dict[str, Any]]:
    async for frame in stream:
        fields = dict(line.split(": ", 1) for line in frame.decode().splitlines() if ": " in line)
        if "data" in fields:
            yield {"id": fields["id"], **json.loads(fields["data"])}


async def first(stream: AsyncIterator[bytes]) -> None:
    async for _ in events(stream):
        return


def state(html: str) -> str:
    return html.partition('data-state="')[2].partition('"')[0]


def test_a_viewer_ends_with_what_is_so(feed: Feed, many: ManyHosts) -> None:
    """Cards of the page, with all that the stream brought, are the cards of a new page."""
    since, _, cards = feed.page()
    shown = {f"pc00{number}": html for number, html in enumerate(cards, 1)}
    seen: list[str] = []

    async def watch() -> None:
        stream = feed.stream(since, None, lambda: True)
        end = time.monotonic() + 10
        async for event in events(stream):
            assert event["cards"] or "summary" in event
            for label, html in event["cards"].items():
                assert shown[label] != html, "nothing is sent twice"
                shown[label] = html
                if label == "pc002":
                    seen.append(state(html))
            if seen[-1:] == ["running"]:
                break
            assert time.monotonic() < end
        await stream.aclose()  # type: ignore[attr-defined]

    many.host("pc002").start("a <script>", None)
    asyncio.run(watch())
    # One after the other; a busy machine may miss what lasts a moment
    assert seen == sorted(seen, key=["clean", "booting", "running"].index)
    assert "task a &lt;script&gt;" in shown["pc002"]
    feed.look()
    assert list(shown.values()) == feed.page()[2]
    many.host("pc002").stop()
    many.until_clean()


def test_who_comes_back_gets_what_it_missed(feed: Feed, many: ManyHosts) -> None:
    since = feed.page()[0]
    many.host("pc003").start("7", None)
    end = time.monotonic() + 5
    while "running" not in feed.page()[2][2]:
        feed.look()
        assert time.monotonic() < end

    async def first(name: str, host: str | None = None) -> dict[str, Any]:
        stream = feed.stream(name, host, lambda: True)
        async for event in events(stream):
            await stream.aclose()  # type: ignore[attr-defined]
            return event
        raise AssertionError

    assert list(asyncio.run(first(since))["cards"]) == ["pc003"]
    for unknown in ("", "0-0", "nonsense", f"{since.partition('-')[0]}-²", "deadbeef-99999999"):
        assert len(asyncio.run(first(unknown))["cards"]) == 5, unknown
    assert asyncio.run(first(since, "pc003"))["id"] == feed.page()[0]
    many.host("pc003").stop()
    many.until_clean()


def test_it_ends(feed: Feed, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the session, and with the service; and a host that does not change says nothing."""
    monkeypatch.setattr(feeds, "HEARTBEAT", 0.05)
    since = feed.page()[0]

    async def collect(allowed: Callable[[], bool]) -> list[bytes]:
        return [frame async for frame in feed.stream(since, "pc001", allowed)]

    answers = [True] * 4
    frames = asyncio.run(collect(lambda: bool(answers) and answers.pop()))
    assert frames[0].startswith(b"retry")
    assert set(frames[1:]) == {b":\n\n"}
    assert feed.viewers == 0

    async def close_soon() -> list[bytes]:
        asyncio.get_running_loop().call_later(0.1, feed.close)
        return await asyncio.wait_for(collect(lambda: True), 2)

    assert asyncio.run(close_soon())


def test_a_look_that_fails_is_not_the_end(
    feed: Feed, many: ManyHosts, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, fails = many.hosts, [True] * 2

    def hosts() -> list[Host]:
        if fails:
            fails.pop()
            raise RuntimeError("once")
        return real()

    monkeypatch.setattr(many, "hosts", hosts)
    since = feed.page()[0]
    many.host("pc001").maintenance(on=True)

    async def watch() -> None:
        async for event in events(feed.stream(since, None, lambda: True)):
            if state(event["cards"].get("pc001", "")) == "maintenance":
                return

    asyncio.run(asyncio.wait_for(watch(), 5))
    assert "can't be looked at" in caplog.text


def test_a_host_that_does_not_answer_holds_up_no_one_else(
    feed: Feed, many: ManyHosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lock may be held while a pool hangs: the event loop, which is CAPE's too, goes on."""
    monkeypatch.setattr(feeds, "PATIENCE", 0.05)
    since, cards = feed.page()[0], feed.page()[2]
    with many.host("pc001")._wake:

        async def watch() -> float:
            stream = feed.stream(since, None, lambda: True)
            waiting = asyncio.create_task(first(stream))
            slowest, last = 0.0, time.monotonic()
            while time.monotonic() < begin + 0.5:
                await asyncio.sleep(0.01)
                slowest = max(slowest, time.monotonic() - last)
                last = time.monotonic()
            await asyncio.to_thread(feed.look)
            waiting.cancel()
            feed.close()
            return slowest

        begin = time.monotonic()
        loop = threading.Thread(target=lambda: took.append(asyncio.run(watch())))
        took: list[float] = []
        loop.start()
        loop.join(3)
        assert feed.page()[2] == cards
    loop.join(5)
    assert took
    assert took[0] < 0.4, "the event loop stood still"

"""The stream of changes: nothing missed, nothing twice, nothing for who may not watch."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import pytest

from cuckoo_zfsiscsi.service.dashboard import feed as feeds
from cuckoo_zfsiscsi.service.dashboard.feed import Feed
from cuckoo_zfsiscsi.service.host import Host
from tests.clocks import RealClock
from tests.service.many_hosts import ManyHosts
from tests.waiting import HANG

if TYPE_CHECKING:
    from cuckoo_zfsiscsi.service.fleet import Fleet

T = TypeVar("T")


@pytest.fixture
def many(tmp_path: Path, clock: RealClock) -> Iterator[ManyHosts]:
    made = ManyHosts(5, tmp_path, {"rpc": 0.1, "agent": 0.2}, clock)
    made.open()
    yield made
    made.close()


@pytest.fixture
def feed(many: ManyHosts, monkeypatch: pytest.MonkeyPatch) -> Feed:
    monkeypatch.setattr(feeds, "LOOK", 0.02)
    made = Feed(cast("Fleet", many))
    made.look()
    return made


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run it in an event loop of its own, which must come to an end."""
    return asyncio.run(asyncio.wait_for(work, HANG))


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
        async for event in events(stream):
            assert event["cards"] or "summary" in event
            for label, html in event["cards"].items():
                assert shown[label] != html, "nothing is sent twice"
                shown[label] = html
                if label == "pc002":
                    seen.append(state(html))
            if seen[-1:] == ["booting"]:
                world.answers.add("rpc")
            if seen[-1:] == ["running"]:
                break
        await stream.aclose()  # type: ignore[attr-defined]

    world = many.worlds["pc002"]
    world.answers.discard("rpc")  # it boots until that was seen
    many.host("pc002").start("a <script>", None)
    run(watch())
    assert seen == sorted(seen, key=["clean", "booting", "running"].index)
    assert {"booting", "running"} <= set(seen)
    assert "task a &lt;script&gt;" in shown["pc002"]
    feed.look()
    assert list(shown.values()) == feed.page()[2]
    many.host("pc002").stop()
    many.until_clean()


def test_who_comes_back_gets_what_it_missed(feed: Feed, many: ManyHosts) -> None:
    since = feed.page()[0]
    many.host("pc003").start("7", None)

    def card() -> str:
        feed.look()
        return feed.page()[2][2]

    many.clock.until(lambda: "running" in card(), "pc003 is shown as running", card)

    async def first(name: str, host: str | None = None) -> dict[str, Any]:
        stream = feed.stream(name, host, lambda: True)
        async for event in events(stream):
            await stream.aclose()  # type: ignore[attr-defined]
            return event
        raise AssertionError

    assert list(run(first(since))["cards"]) == ["pc003"]
    for unknown in ("", "0-0", "nonsense", f"{since.partition('-')[0]}-²", "deadbeef-99999999"):
        assert len(run(first(unknown))["cards"]) == 5, unknown
    assert run(first(since, "pc003"))["id"] == feed.page()[0]
    many.host("pc003").stop()
    many.until_clean()


def test_it_ends(feed: Feed, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the session, and with the service; and a host that does not change says nothing."""
    monkeypatch.setattr(feeds, "HEARTBEAT", 0.05)
    since = feed.page()[0]

    async def collect(allowed: Callable[[], bool]) -> list[bytes]:
        return [frame async for frame in feed.stream(since, "pc001", allowed)]

    answers = [True] * 4
    frames = run(collect(lambda: bool(answers) and answers.pop()))
    assert frames[0].startswith(b"retry")
    assert set(frames[1:]) == {b":\n\n"}
    assert feed.viewers == 0

    async def close_soon() -> list[bytes]:
        asyncio.get_running_loop().call_later(0.1, feed.close)
        return await collect(lambda: True)

    assert run(close_soon())


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

    run(watch())
    assert "can't be looked at" in caplog.text


def test_a_host_that_does_not_answer_holds_up_no_one_else(
    feed: Feed, many: ManyHosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lock may be held while a pool hangs: the event loop, which is CAPE's too, goes on."""
    monkeypatch.setattr(feeds, "PATIENCE", 0.05)
    since, cards = feed.page()[0], feed.page()[2]
    released, turns, looks = threading.Event(), 0, 0

    async def watch() -> None:
        nonlocal turns, looks
        waiting = asyncio.create_task(first(feed.stream(since, None, lambda: True)))
        while not released.is_set():
            await asyncio.sleep(0.01)
            turns += 1
            if feed._turn.locked():  # the stream's look: another one leaves it at that
                await asyncio.to_thread(feed.look)
                looks += 1
        waiting.cancel()
        feed.close()

    loop = threading.Thread(target=lambda: asyncio.run(watch()))
    with many.host("pc001")._wake:
        loop.start()
        many.clock.until(
            lambda: turns >= 20 and looks >= 3, "the event loop goes on", lambda: (turns, looks)
        )
        assert feed.page()[2] == cards
    released.set()
    loop.join(HANG)
    assert not loop.is_alive()

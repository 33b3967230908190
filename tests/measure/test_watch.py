from __future__ import annotations

import socketserver
import threading
import time
from collections.abc import Iterator

import pytest

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import DeadlineExceededError
from cuckoo_zfsiscsi.measure.watch import Watch
from cuckoo_zfsiscsi.readiness import Answer
from tests.measure.played import Played, Server

FIRST, LATER = 20.0, 0.3
SLACK = 1.0
"""Seconds."""


@pytest.fixture
def host() -> Iterator[Played]:
    host = Played(0.0)
    yield host
    host.cut()


def test_outages_are_as_long_as_they_were(host: Played) -> None:
    """To a step of the probe at each end, and what a busy machine adds."""
    host.boot()
    with Watch("127.0.0.1", port=host.port) as watch:
        up = watch.up(Deadline(FIRST))
        for seconds in (0.5, 1.2):
            cut = time.monotonic()
            host.cut()
            time.sleep(seconds)
            host.boot()
            back = time.monotonic()
            down = watch.lost(Deadline(FIRST), after=up)
            up = watch.up(Deadline(FIRST), after=down)
            assert cut - SLACK <= down < cut + SLACK
            assert back <= up + 0.05
            assert up < back + SLACK
        assert [state for _, state in watch.changes()] == [True, False, True, False, True]


def test_what_does_not_change(host: Played) -> None:
    host.boot()
    with Watch("127.0.0.1", port=host.port) as watch:
        up = watch.up(Deadline(FIRST))
        with pytest.raises(DeadlineExceededError, match="lost"):
            watch.lost(Deadline(LATER), after=up)
        with pytest.raises(DeadlineExceededError, match="down"):
            watch.down(Deadline(LATER))


def test_a_host_that_says_nothing_is_asked_every_step() -> None:
    """Each probe waits a second for it; the next is sent all the same."""
    came: list[float] = []

    class Silent(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            came.append(time.monotonic())
            while self.request.recv(4096):
                pass

    with Server(("127.0.0.1", 0), Silent) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        with Watch("127.0.0.1", port=server.server_address[1]) as watch:
            watch.down(Deadline(FIRST))
            before = len(came)
            time.sleep(1.5)
            assert len(came) - before >= 5
        server.shutdown()
        thread.join()


def test_one_lost_probe_is_no_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([True, False, True, False, False, True])

    def probe(*_args: object, **_options: object) -> Answer:
        return Answer(next(answers, True), "", 0.0)

    monkeypatch.setattr("cuckoo_zfsiscsi.readiness.rpc.probe", probe)
    with Watch("127.0.0.1") as watch:
        down = watch.lost(Deadline(FIRST), after=0.0)
        watch.up(Deadline(FIRST), after=down)
        assert [state for _, state in watch.changes()] == [True, False, True]

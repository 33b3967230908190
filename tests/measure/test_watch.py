from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator

import pytest

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import DeadlineExceededError
from cuckoo_zfsiscsi.measure.watch import INTERVAL, Watch
from cuckoo_zfsiscsi.readiness import Answer
from tests.clocks import VirtualClock
from tests.measure.played import Played, Server
from tests.waiting import HANG, wait

SEEN = 5.0


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def host(clock: VirtualClock) -> Iterator[Played]:
    host = Played(0.0, clock=clock)
    yield host
    host.cut()


def test_outages_are_as_long_as_they_were(host: Played, clock: VirtualClock) -> None:
    """To a step of the probe at each end."""
    host.boot()
    with Watch("127.0.0.1", port=host.port, clock=clock) as watch:
        up = watch.up(Deadline(SEEN, clock=clock))
        for seconds in (0.5, 1.2, 2.0):
            cut = clock.monotonic()
            host.cut()
            clock.sleep(seconds)
            host.boot()
            back = clock.monotonic()
            down = watch.lost(Deadline(SEEN, clock=clock), after=up)
            up = watch.up(Deadline(SEEN, clock=clock), after=down)
            assert cut - INTERVAL <= down <= cut + INTERVAL
            assert back <= up <= back + INTERVAL
        assert [state for _, state in watch.changes()] == [True, False] * 3 + [True]


def test_what_does_not_change(host: Played, clock: VirtualClock) -> None:
    host.boot()
    with Watch("127.0.0.1", port=host.port, clock=clock) as watch:
        up = watch.up(Deadline(SEEN, clock=clock))
        with pytest.raises(DeadlineExceededError, match="lost"):
            watch.lost(Deadline(SEEN, clock=clock), after=up)
        with pytest.raises(DeadlineExceededError, match="down"):
            watch.down(Deadline(SEEN, clock=clock))


def test_a_host_that_says_nothing_is_asked_every_step() -> None:
    """Each probe waits a second for it; the next is sent all the same."""
    lock, now, most = threading.Lock(), 0, 0

    class Silent(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            nonlocal now, most
            with lock:
                now += 1
                most = max(most, now)
            while self.request.recv(4096):
                pass
            with lock:
                now -= 1

    with Server(("127.0.0.1", 0), Silent) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        with Watch("127.0.0.1", port=server.server_address[1]) as watch:
            watch.down(Deadline(HANG))
            wait(lambda: most >= 5, what="not 5 probes at a time", seen=lambda: most)
        server.shutdown()
        thread.join()


def test_one_lost_probe_is_no_outage(monkeypatch: pytest.MonkeyPatch, clock: VirtualClock) -> None:
    answers = iter([True, False, True, False, False, True])

    def probe(*_args: object, **_options: object) -> Answer:
        is_up = next(answers, True)
        return Answer(is_up, "", 0.0, is_up)

    monkeypatch.setattr("cuckoo_zfsiscsi.readiness.rpc.probe", probe)
    begin = clock.monotonic()
    with Watch("127.0.0.1", clock=clock) as watch:
        down = watch.lost(Deadline(SEEN, clock=clock), after=0.0)
        watch.up(Deadline(SEEN, clock=clock), after=down)
        assert [state for _, state in watch.changes()] == [True, False, True]
    assert [round((at - begin) / INTERVAL) for at, _ in watch.changes()] == [0, 3, 5]

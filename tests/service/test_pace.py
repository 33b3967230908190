"""Many hosts take turns; one that is alone notices nothing."""

from __future__ import annotations

import threading
import time

import pytest

from cuckoo_zfsiscsi.deadline import Cancel
from cuckoo_zfsiscsi.errors import CancelledError
from cuckoo_zfsiscsi.service.pace import Pace
from tests.waiting import wait


def test_one_host_looks_as_often_as_it_wants() -> None:
    pace = Pace(rate=1000)
    for _ in range(5):
        assert pace.pause(0.1) == pytest.approx(0.1, abs=0.05)
        time.sleep(0.01)


def test_many_hosts_share_the_looks() -> None:
    pace = Pace(rate=50)
    pauses = [pace.pause(0.1) for _ in range(200)]
    assert pauses == sorted(pauses)
    assert pauses[0] == pytest.approx(0.1, abs=0.05)
    assert pauses[-1] == pytest.approx(0.1 + 199 / 50, abs=1.0)


def test_so_many_at_once() -> None:
    pace, cancel = Pace(at_once=2), Cancel()
    inside, most = 0, 0
    lock = threading.Lock()

    def work() -> None:
        nonlocal inside, most
        with pace.turn(10.0, cancel):
            with lock:
                inside += 1
                most = max(most, inside)
            time.sleep(0.02)
            with lock:
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (inside, most) == (0, 2)


def test_hosts_that_hang_do_not_keep_others_for_ever() -> None:
    pace, cancel = Pace(at_once=1), Cancel()
    with pace.turn(1.0, cancel):
        begin = time.monotonic()
        with pace.turn(0.2, cancel):
            assert 0.2 <= time.monotonic() - begin < 2.0
        cancel.set("the service is stopping")
        with pytest.raises(CancelledError, match="stopping"), pace.turn(1.0, cancel):
            pass
    with pace.turn(0.0, Cancel()):  # the first is over, and so is what it held
        pass
    assert pace._turns._value == 1


def test_calls_come_in_time_and_in_order() -> None:
    pace, begin = Pace(), time.monotonic()
    said: list[tuple[str, float]] = []
    for round_ in range(2):  # the thread ends when there is nothing to do, and comes again
        said.clear()
        for name, seconds in (("late", 0.4), ("soon", 0.0), ("now", -1.0)):
            at = time.monotonic() + seconds
            pace.call(at, lambda n=name, a=at: said.append((n, time.monotonic() - a)))  # type: ignore[misc]
        wait(lambda: not pace._caller, 5, f"round {round_} does not end")
        assert [name for name, _ in said] == ["now", "soon", "late"]
        assert min(late for _, late in said) >= 0
    assert time.monotonic() - begin < 5

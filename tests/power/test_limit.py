from __future__ import annotations

import threading
import time

import pytest

from cuckoo_zfsiscsi.deadline import Cancel, Deadline
from cuckoo_zfsiscsi.errors import CancelledError, DeadlineExceededError
from cuckoo_zfsiscsi.power.limit import Limiter, limiter_for


def test_one_per_peer() -> None:
    assert limiter_for("ipmi://10.0.0.1:623") is limiter_for("ipmi://10.0.0.1:623")
    assert limiter_for("ipmi://10.0.0.1:623") is not limiter_for("ipmi://10.0.0.2:623")


def test_pause_is_kept_from_end_to_begin() -> None:
    limiter = Limiter()
    with limiter.turn(0.3, deadline=Deadline(5), what="first"):
        time.sleep(0.1)
        end = time.monotonic()
    with limiter.turn(0.3, deadline=Deadline(5), what="second"):
        assert 0.3 <= time.monotonic() - end < 5


def test_first_come_first_served() -> None:
    limiter = Limiter()
    order: list[int] = []
    inside = threading.Semaphore(1)

    def take(number: int) -> None:
        with limiter.turn(0.0, deadline=Deadline(10), what="turn"):
            assert inside.acquire(blocking=False), "two at a time"
            order.append(number)
            time.sleep(0.01)
            inside.release()

    threads = [threading.Thread(target=take, args=(number,)) for number in range(6)]
    with limiter.turn(0.0, deadline=Deadline(10), what="turn"):
        for thread in threads:
            thread.start()
            time.sleep(0.05)
    for thread in threads:
        thread.join()
    assert order == list(range(6))


def test_who_gives_up_leaves_the_queue() -> None:
    limiter = Limiter()
    cancel = Cancel()
    with limiter.turn(0.0, deadline=Deadline(10), what="turn"):
        threading.Timer(0.1, cancel.set, ("stop",)).start()
        begin = time.monotonic()
        with pytest.raises(CancelledError):
            limiter.turn(0.0, deadline=Deadline(10, cancel), what="turn").__enter__()
        assert time.monotonic() - begin < 5
        with pytest.raises(DeadlineExceededError):
            limiter.turn(0.0, deadline=Deadline(0.1), what="turn").__enter__()
    with limiter.turn(0.0, deadline=Deadline(10), what="turn"):
        pass


def test_error_inside_gives_the_turn_back() -> None:
    limiter = Limiter()
    with pytest.raises(ZeroDivisionError), limiter.turn(0.0, deadline=Deadline(10), what="turn"):
        raise ZeroDivisionError
    with limiter.turn(0.0, deadline=Deadline(10), what="turn"):
        pass

from __future__ import annotations

import gc
import os
import threading
import weakref

import pytest

from cuckoo_zfsiscsi.deadline import Cancel, Deadline
from cuckoo_zfsiscsi.disk import bounded as module
from cuckoo_zfsiscsi.disk.bounded import _Workers, begun, bounded
from cuckoo_zfsiscsi.errors import CancelledError, DeadlineExceededError
from tests.waiting import HANG


def test_returns_what_the_call_returns_from_another_thread() -> None:
    me = threading.get_ident()
    assert bounded(threading.get_ident, "asking", Deadline(HANG)) != me


def test_raises_what_the_call_raises() -> None:
    with pytest.raises(ZeroDivisionError):
        bounded(lambda: 1 / 0, "dividing", Deadline(HANG))
    with pytest.raises(SystemExit):
        bounded(lambda: exit(1), "exit", Deadline(HANG))
    assert bounded(lambda: 2, "afterwards", Deadline(HANG)) == 2


def test_what_is_begun_goes_on_until_it_is_waited_for() -> None:
    go_on = threading.Event()
    wait = begun(lambda: go_on.wait(HANG), "the pool", Deadline(HANG))
    go_on.set()
    assert wait() is True
    wait = begun(lambda: bool(1 / 0), "dividing", Deadline(HANG))
    with pytest.raises(ZeroDivisionError):
        wait()


def test_one_thread_after_the_other_is_used_again() -> None:
    bounded(int, "first", Deadline(HANG))
    before = threading.active_count()
    assert {bounded(threading.get_ident, "again", Deadline(HANG)) for _ in range(50)}
    assert threading.active_count() <= before + 1


def test_gives_up_at_the_deadline_and_the_call_goes_on() -> None:
    go_on, done = threading.Event(), threading.Event()

    def call() -> None:
        go_on.wait(HANG)
        done.set()

    with pytest.raises(DeadlineExceededError, match=r"the pool took longer than 0\.2 s"):
        bounded(call, "the pool", Deadline(0.2))
    assert not done.is_set()
    go_on.set()
    assert done.wait(HANG)


def test_gives_up_when_cancelled() -> None:
    cancel, go_on = Cancel(), threading.Event()
    threading.Timer(0.2, cancel.set, ["stop"]).start()
    with pytest.raises(CancelledError, match="the pool: given up, stop"):
        bounded(lambda: go_on.wait(HANG), "the pool", Deadline(HANG, cancel))
    go_on.set()


def test_is_not_even_begun_when_the_time_is_up() -> None:
    called: list[int] = []
    with pytest.raises(DeadlineExceededError):
        bounded(lambda: called.append(1), "the pool", Deadline(0))
    assert not called


def test_calls_that_never_return_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_workers", _Workers(3))
    go_on, called = threading.Event(), threading.Semaphore(0)
    before = threading.active_count()

    def call() -> None:
        called.release()
        go_on.wait(HANG)

    for _ in range(5):
        with pytest.raises(DeadlineExceededError):
            bounded(call, "the pool", Deadline(0.1))
    assert threading.active_count() == before + 3
    with pytest.raises(DeadlineExceededError, match="that do not return"):
        bounded(int, "another", Deadline(0.1))
    go_on.set()
    assert bounded(int, "another", Deadline(HANG)) == 0
    assert all(called.acquire(timeout=HANG) for _ in range(3))
    assert not called.acquire(timeout=0.1)


def test_keeps_neither_result_nor_error_alive() -> None:
    class Thing:
        pass

    class ThingError(Exception):
        pass

    def fail() -> None:
        raise ThingError

    thing = weakref.ref(bounded(Thing, "making", Deadline(HANG)))
    assert thing() is None
    gc.disable()
    try:
        bounded(fail, "failing", Deadline(HANG))
    except ThingError as error:
        failed = weakref.ref(error)
    finally:
        gc.enable()
    gc.collect()
    assert failed() is None


def test_works_in_a_forked_child() -> None:
    bounded(int, "before", Deadline(HANG))
    if (child := os.fork()) == 0:
        status = 1
        try:
            status = bounded(int, "in the child", Deadline(HANG))
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0

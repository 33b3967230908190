"""Calls into the kernel that may never return, waited for only as long as the deadline allows.

A suspended pool or a stuck configfs write blocks its caller inside the kernel, where not even a
signal reaches it. So such a call is made in a worker thread, and when the time is up nobody waits
for it any more. It may still have its effect later, as after a crash: callers must find that in
order, too.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable
from functools import partial
from typing import Generic, TypeVar

from cuckoo_zfsiscsi.deadline import ROUND, Deadline

T = TypeVar("T")

MOST = 128
"""Threads at most, those included whose call nobody waits for any more."""


class _Job(Generic[T]):
    """One call, and what became of it."""

    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self._done = threading.Event()
        self._error: BaseException | None = None
        self._result: T

    def run(self) -> None:
        try:
            self._result = self._call()
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            self._error = error

    def end(self) -> None:
        self._done.set()

    def wait(self, what: str, deadline: Deadline) -> T:
        while not self._done.wait(min(ROUND, deadline.remaining)):
            deadline.check(what)
        if self._error is not None:
            try:
                raise self._error
            finally:
                self._error = None  # or its traceback, which has us, would keep us for ever
        return self._result


class _Workers:
    """Daemon threads: the interpreter's end does not wait for them."""

    def __init__(self, most: int) -> None:
        self._jobs: queue.SimpleQueue[_Job[object]] = queue.SimpleQueue()
        self._free = threading.Semaphore(most)
        self._idle = threading.Semaphore(0)

    def begin(self, job: _Job[T], what: str, deadline: Deadline) -> None:
        while not self._free.acquire(timeout=min(ROUND, deadline.remaining)):
            deadline.check(f"{what}: waiting for calls into the kernel that do not return")
        if not self._idle.acquire(blocking=False):
            threading.Thread(target=self._work, name="bounded", daemon=True).start()
        self._jobs.put(job)  # type: ignore[arg-type]

    def _work(self) -> None:
        while True:
            job = self._jobs.get()
            job.run()
            self._idle.release()  # before end(): the next call of the same caller finds us
            self._free.release()
            job.end()
            del job  # an idle thread keeps no result alive


_workers = _Workers(MOST)


def _forget() -> None:
    """Begin anew in a forked child: it has no threads but the one that forked."""
    global _workers
    _workers = _Workers(MOST)


os.register_at_fork(after_in_child=_forget)


def bounded(call: Callable[[], T], what: str, deadline: Deadline) -> T:
    """Make a call in a worker thread, and give up waiting when the time is up.

    Args:
        call: takes nothing; best something that knows all it needs (functools.partial).
        what: completes "... took longer than N s".
        deadline: of the wait. What is not waited for goes on, and its result is lost.

    Raises:
        DeadlineExceededError, CancelledError: it has not returned; or so many others have not
            that there is no thread for it, and it was not made.
        BaseException: whatever the call raised.
    """
    return begun(call, what, deadline)()


def begun(call: Callable[[], T], what: str, deadline: Deadline) -> Callable[[], T]:
    """Begin a call in a worker thread; return what waits for it and returns its result, once.

    Args:
        call: as of bounded().
        what: as of bounded().
        deadline: of beginning it, and of the wait.

    Raises:
        DeadlineExceededError, CancelledError: there is no thread for it, and it was not made.
    """
    deadline.check(what)
    job = _Job(call)
    _workers.begin(job, what, deadline)
    return partial(job.wait, what, deadline)

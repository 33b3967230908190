"""Calls of libraries that can't be cancelled, waited for only as long as the deadline allows.

Such a call is made in a thread of its own. When nobody waits any more it goes on to its own end;
until then the next call to the same device waits, as a BMC bears one at a time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from cuckoo_zfsiscsi.deadline import Deadline

T = TypeVar("T")

POLL = 0.02
"""Seconds between two looks at a wish to cancel."""


class Patient:
    """Makes the calls to one device, one after the other."""

    def __init__(self) -> None:
        self._alone = threading.Lock()

    def call(self, what: str, deadline: Deadline, function: Callable[[], T]) -> T:
        """Make one call.

        Args:
            what: completes "... took longer than N s".
            deadline: for all of it.
            function: the call; by and by it must end by itself.

        Raises:
            DeadlineExceededError, CancelledError: nobody waits for it any more.
            Exception: what the call raised.
        """
        deadline.check(what)
        while not self._alone.acquire(timeout=POLL):
            deadline.check(f"{what}: the command before still goes on; it")
        results: list[T] = []
        errors: list[BaseException] = []
        done = threading.Event()

        def work() -> None:
            try:
                results.append(function())
            except BaseException as error:  # noqa: BLE001 - raised again below
                errors.append(error)
            finally:
                self._alone.release()
                done.set()

        threading.Thread(target=work, name="power", daemon=True).start()
        while not done.wait(POLL):
            deadline.check(what)
        if errors:
            raise errors[0]
        return results[0]

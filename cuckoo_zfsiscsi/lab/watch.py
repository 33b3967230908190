"""Watches a host from outside, in the lab's network: since when does RPC answer, or not."""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import TypeVar

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import LabError
from cuckoo_zfsiscsi.lab.network import FOLDER, Network
from cuckoo_zfsiscsi.readiness import Answer, agent, rpc

INTERVAL = 0.1
"""Seconds between two probes."""
ATTEMPT = 1.0
"""Seconds for one probe."""
CLONE_NEWNET = 0x40000000  # sched.h

T = TypeVar("T")


def enter(network: Network) -> None:
    """Move the calling thread, and it alone, into the network (setns(2); os.setns is 3.12's).

    Raises:
        LabError: it is gone, or we are not root.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        namespace = os.open(FOLDER / network.name, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise LabError(f"the network {network.name}: {error.strerror}") from None
    try:
        if libc.setns(namespace, CLONE_NEWNET):
            raise LabError(f"the network {network.name}: {os.strerror(ctypes.get_errno())}")
    finally:
        os.close(namespace)


def inside(network: Network, call: Callable[[], T]) -> T:
    """Call something in the network; return what it returned, raise what it raised."""
    result: list[T] = []
    failed: list[BaseException] = []

    def body() -> None:
        try:
            enter(network)
            result.append(call())
        except BaseException as error:  # noqa: BLE001 - raised again by the caller's thread
            failed.append(error)

    thread = threading.Thread(target=body, name="inside", daemon=True)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return result[0]


class Watch:
    """Probes RPC of one host every INTERVAL until closed, as the paper's authors did.

    Args:
        network: where the host is.
        address: its IP address.
    """

    def __init__(self, network: Network, address: str) -> None:
        self._network = network
        self._address = address
        self._changes: list[tuple[float, bool]] = []
        self._news = threading.Condition()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watch", daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(
        self, _t: type[BaseException] | None, _e: BaseException | None, _b: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join()

    def changes(self) -> list[tuple[float, bool]]:
        """Since when (time.monotonic()) RPC did answer, or did not; the oldest first."""
        with self._news:
            return list(self._changes)

    def up(self, deadline: Deadline, *, after: float = 0.0) -> float:
        """Wait until RPC answers; return when it first did (time.monotonic()).

        Args:
            deadline: by when.
            after: what was before that moment does not count.

        Raises:
            DeadlineExceededError, CancelledError: as Deadline.check().
        """
        return self._wait("up", deadline, lambda: self._first_up(after))

    def down(self, deadline: Deadline) -> float:
        """Wait until RPC is silent; return since when it is (time.monotonic()).

        Raises:
            DeadlineExceededError, CancelledError: as Deadline.check().
        """
        return self._wait("down", deadline, self._down_since)

    def _first_up(self, after: float) -> float | None:
        return next((at for at, up in self.changes() if up and at > after), None)

    def _down_since(self) -> float | None:
        changes = self.changes()
        return changes[-1][0] if changes and not changes[-1][1] else None

    def _wait(self, what: str, deadline: Deadline, look: Callable[[], float | None]) -> float:
        while (found := look()) is None:
            with self._news:
                self._news.wait(INTERVAL)
            deadline.check(f"RPC of {self._address} {what}")
        return found

    def agent(self) -> Answer:
        """Ask the agent once, now."""
        return inside(self._network, lambda: agent.probe(self._address, deadline=Deadline(5.0)))

    def _watch(self) -> None:
        enter(self._network)
        silent_since: float | None = None
        while not self._end.is_set():
            began = time.monotonic()
            if rpc.probe(self._address, deadline=Deadline(ATTEMPT)).ok:
                silent_since = None
                self._note(time.monotonic(), up=True)
            elif silent_since is None and self._changes:
                silent_since = began  # it counts when the next probe fails, too
            else:
                self._note(silent_since or began, up=False)
            self._end.wait(INTERVAL)

    def _note(self, moment: float, *, up: bool) -> None:
        with self._news:
            if not self._changes or self._changes[-1][1] is not up:
                self._changes.append((moment, up))
                self._news.notify_all()

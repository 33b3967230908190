"""Several calls made at the same time, and all of them waited for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import TypeVar

from cuckoo_zfsiscsi.clock import Clock

T = TypeVar("T")


def at_once(calls: Sequence[Callable[[], T]], clock: Clock, name: str) -> list[Future[T]]:
    """Make each call in a thread of its own; return when the last has ended.

    Args:
        calls: take nothing. Each must end by itself.
        clock: that they go by.
        name: of the threads.

    Returns:
        What became of each call, in their order.
    """
    futures: list[Future[T]] = [Future() for _ in calls]
    threads = [
        clock.thread(partial(_make, call, future), name)
        for call, future in zip(calls, futures, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return futures


def _make(call: Callable[[], T], future: Future[T]) -> None:
    try:
        future.set_result(call())
    except BaseException as error:  # noqa: BLE001 - raised again by whoever asks for the result
        future.set_exception(error)

"""Waits for something real to become true, with an end."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

HANG = 120.0
"""Seconds after which a wait for something real is given up. It bounds hangs, and never speed."""


def wait(
    condition: Callable[[], T],
    seconds: float = HANG,
    what: str = "it never came true",
    seen: Callable[[], object] = str,
    pause: float = 0.005,
) -> T:
    """Wait until the condition is true, and return what it was then.

    Args:
        condition: looked at again and again.
        seconds: at most.
        what: what is waited for, said when it never came.
        seen: what there was instead, said then, too.
        pause: seconds between two looks, where each one is work for somebody.

    Raises:
        AssertionError: the time is up.
    """
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"{what}; seen: {seen()}"
        time.sleep(pause)
    return value

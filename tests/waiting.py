"""Waits for something to become true, with an end."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait(
    condition: Callable[[], object], seconds: float = 5.0, what: str = "it never came true"
) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.005)

"""How long the tests here wait, and what they say when they have waited in vain.

None of these bounds measures anything: each is there so that a hang ends, with a word about what
was seen until then. Each leaves room for the one before it to speak first, and all of them for a
machine that has other things to do.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

SERVICE = 60.0
"""Seconds for the service's own time-outs, where a test is not about them."""
HANG = 120.0
"""Seconds after which what a test waits for counts as hung."""
TEST = 600.0
"""Seconds for a whole test: one hang after much that was slow."""
TAIL = 40
"""Lines of a log that a message shows."""


def wait(
    true: Callable[[], object],
    what: str,
    saw: Callable[[], str],
    *,
    seconds: float = HANG,
    pause: float = 0.05,
) -> None:
    """Wait until something is true.

    Args:
        true: asked again and again.
        what: is waited for.
        saw: tells what there is instead, once it has taken too long.
        seconds: that it may take.
        pause: between two looks.

    Raises:
        AssertionError: it was not true in all that time.
    """
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"waited {seconds:g} s for {what}; {saw()}"
        time.sleep(pause)


def tail(log: Path) -> str:
    """Return the last lines of a log, under its name."""
    if not log.exists():
        return f"there is no {log.name}"
    lines = log.read_text(errors="replace").splitlines()[-TAIL:]
    return "\n".join([f"the end of {log.name}:", *lines])

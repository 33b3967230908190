"""How long the tests here wait, and what they say when they have waited in vain.

None of these bounds measures anything: each is there so that a hang ends, with a word about what
was seen until then. Each leaves room for the one before it to speak first (SERVICE, HANG of
tests/waiting.py, TEST), and all of them for a machine that has other things to do.
"""

from __future__ import annotations

from pathlib import Path

import pytest

SERVICE = 60.0
"""Seconds for the service's own time-outs, where a test is not about them."""
TEST = 600.0
"""Seconds for a whole test: one hang after much that was slow."""
TAIL = 40
"""Lines of a log that a message shows."""


def tail(log: Path) -> str:
    """Return the last lines of a log, under its name."""
    if not log.exists():
        return f"there is no {log.name}"
    lines = log.read_text(errors="replace").splitlines()[-TAIL:]
    return "\n".join([f"the end of {log.name}:", *lines])


def be_patient(items: list[pytest.Item], folder: Path) -> None:
    """Let what a test waits for be named by the test, before pytest ends it without a word.

    Args:
        items: all tests that were collected.
        folder: whose tests are meant, but for those that have a time of their own.
    """
    for item in items:
        if item.path.parent == folder and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(TEST))

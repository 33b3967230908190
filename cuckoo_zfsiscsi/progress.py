"""How long operations tell whoever waits how far they are."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int], None]
"""Called with (bytes done, bytes in all), at most a few times a second."""


def silent(_done: int, _total: int) -> None:
    """Nobody is watching."""

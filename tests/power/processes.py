"""The command lines of all processes: no secret may stand there."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def processes() -> dict[int, bytes]:
    """Return the command line of every process."""
    lines: dict[int, bytes] = {}
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines[int(entry.parent.name)] = entry.read_bytes()
        except OSError:  # it has just ended
            continue
    return lines


@contextmanager
def watched(pause: float = 0.0) -> Iterator[set[bytes]]:
    """Give all command lines that are seen until the end, looking every `pause` seconds."""
    seen: set[bytes] = set()
    done = threading.Event()

    def sample() -> None:
        while not done.wait(pause):
            seen.update(processes().values())

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join()

"""Processes of this machine: do they still run, and what stands in their command lines."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def alive(pid: int) -> bool:
    """Look at its state (proc(5), /proc/PID/stat)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:  # not there, or gone since it was opened (ESRCH)
        return False
    return state not in "ZX"


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

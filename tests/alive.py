"""Does a process still run? One that has ended may be a zombie, or vanish while we look at it."""

from __future__ import annotations

from pathlib import Path


def alive(pid: int) -> bool:
    """Look at its state (proc(5), /proc/PID/stat)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:  # not there, or gone since it was opened (ESRCH)
        return False
    return state not in "ZX"

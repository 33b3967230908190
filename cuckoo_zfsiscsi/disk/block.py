"""Opens block devices of ZFS volumes."""

from __future__ import annotations

import os
import time
from pathlib import Path

ERESTARTSYS = 512
"""The kernel's own "again", which no program should see (include/linux/errno.h)."""
PATIENCE = 60.0
"""Seconds in which pools must have come to rest: ten are too few for four hosts on a busy machine.
Whoever waits has a deadline of its own."""
_PAUSE = 0.01


def open_block(device: Path, flags: int) -> int:
    """Open a device as os.open() does, again and again while ZFS can't.

    While another thread or process makes or destroys anything in any pool, opening a volume may
    fail with ERESTARTSYS (zvol_open() of ZFS 2.1): seen with several hosts at once.

    Raises:
        OSError: it can't be opened, or not for PATIENCE seconds.
    """
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return os.open(device, flags | os.O_CLOEXEC)
        except OSError as error:
            if error.errno != ERESTARTSYS or time.monotonic() > end:
                raise
        time.sleep(_PAUSE)

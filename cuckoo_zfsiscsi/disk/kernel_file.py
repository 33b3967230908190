"""Files in which the kernel tells one fact each: sysfs and configfs."""

from __future__ import annotations

import os
from pathlib import Path

_PAGE = 4096
"""Bytes: no such file is longer (fs/configfs/file.c, SIMPLE_ATTR_SIZE; sysfs_emit())."""


def read(path: Path | str) -> bytes:
    """Return what is in it. A host waits while many are read: so without a file object.

    Raises:
        OSError: it is gone, perhaps only just (FileNotFoundError), or can't be read.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        return os.read(handle, _PAGE)
    finally:
        os.close(handle)

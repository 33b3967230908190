"""Room for logs and run-time files; a full /var stops more than us."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from cuckoo_zfsiscsi.check import Finding
from cuckoo_zfsiscsi.config import Config
from cuckoo_zfsiscsi.doctor.system import System

TIGHT = 1e9
"""Bytes free in /var that call for attention."""
FULL = 100e6


def check_space(config: Config, system: System) -> Iterator[Finding]:
    """Look at run_dir and /var."""
    run_dir = config.zfsiscsi.run_dir
    where = f"[zfsiscsi] run_dir = {run_dir}"
    if not system.exists(run_dir):
        yield Finding("info", where, "is not there yet: the service makes it", "zfsiscsi serve")
    elif not system.path(run_dir).is_dir():
        yield Finding("error", where, "is not a folder", f"ls -ld {run_dir}")
    else:
        yield _free(where, system.path(run_dir), tight=50e6, full=5e6, look=str(run_dir))
    yield _free("/var", system.path("/var"), tight=TIGHT, full=FULL, look="/var")


def _free(where: str, path: Path, *, tight: float, full: float, look: str) -> Finding:
    try:
        found = os.statvfs(path)
    except OSError as error:
        return Finding("error", where, f"can't be looked at: {error.strerror}", f"ls -ld {look}")
    free = found.f_bavail * found.f_frsize
    what = f"{free / 1e9:.2f} GB are free"
    fix = f"du -xh -d 2 {look} | sort -h | tail; journalctl --vacuum-size=500M"
    if free < full:
        return Finding("error", where, what, fix)
    if free < tight:
        return Finding("warning", where, what, fix)
    return Finding("ok", where, what)

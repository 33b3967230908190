"""A PostgreSQL server of one's own, for CAPE."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.daemon import Daemon
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import LabError
from tests.waiting import HANG

INSTALL = "apt install postgresql"
START = 60.0
"""Seconds."""


@contextmanager
def postgres() -> Iterator[str]:
    """Run one behind a unix socket; give SQLAlchemy's URL of an empty database."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not programs:
        pytest.fail(f"PostgreSQL is not installed (fix: {INSTALL})")
    said: list[str] = []
    at = Path(tempfile.mkdtemp(prefix="zfsiscsi-postgres-", dir="/var/tmp"))
    shutil.chown(at, "postgres", "postgres")
    as_owner = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    argv = [*as_owner, f"{programs[-1]}/initdb", "-D", f"{at}/data"]
    argv += ["--auth=trust", "--no-sync", "--encoding=UTF8"]
    server = Daemon(
        [*as_owner, f"{programs[-1]}/postgres", "-D", f"{at}/data", "-k", str(at),
         "-c", "listen_addresses=", "-c", "fsync=off"],
        at / "server.pid",
        name="postgres",
        env={"LC_ALL": "C"},
        on_line=said.append,
        error=LabError,
        install=INSTALL,
    )  # fmt: skip
    try:
        environment = {**os.environ, "LC_ALL": "C"}
        subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, cwd=at, env=environment)
        server.start(Deadline(START), lambda: any("ready to accept" in line for line in said))
        # CAPE's REST asks for tasks by text, which psycopg 3 does not take for a number
        yield f"postgresql+psycopg2://postgres@/postgres?host={at}"
    finally:
        server.stop(Deadline(HANG))
        shutil.rmtree(at)

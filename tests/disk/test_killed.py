from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.disk.store.facts import unprotect
from tests.disk.killed import SCENARIOS
from tests.waiting import HANG


@pytest.fixture
def place() -> Iterator[Path]:
    """Return a directory whose path is short enough for a socket.

    It is in memory, for hundreds of fsync: what a killed process has written is there all the same.
    """
    with tempfile.TemporaryDirectory(prefix="zk", dir="/dev/shm") as name:
        yield Path(name)
        for raw in Path(name).glob("store/images/*/*.raw"):
            unprotect(raw)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_killed_at_each_step_and_clean_after(place: Path, scenario: str) -> None:
    argv = [sys.executable, "-m", "tests.disk.killed", scenario, str(place)]
    env = {**os.environ, "PYTHONWARNINGS": "error"}
    done = subprocess.run(argv, capture_output=True, text=True, timeout=HANG, env=env, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 5

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.store.zfs import ZfsStore
from cuckoo_zfsiscsi.disk.store.zfs_setup import Setup
from tests.waiting import HANG
from tests.zfs.store.killed import SCENARIOS


@pytest.mark.timeout(900)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_killed_at_any_step_and_clean_after(parent: str, tmp_path: Path, scenario: str) -> None:
    store = ZfsStore(parent)
    Setup(store.layout, store.zfs).init(take=False, deadline=Deadline(HANG))
    argv = [sys.executable, "-m", "tests.zfs.store.killed", scenario, parent, str(tmp_path)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=880, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) > 1

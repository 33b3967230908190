from __future__ import annotations

import logging
import time
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.deadline import Cancel, Deadline
from cuckoo_zfsiscsi.disk.target import tgt_sandbox
from cuckoo_zfsiscsi.disk.target.tgt_process import _LINES, Tgtd
from cuckoo_zfsiscsi.disk.target.tgt_sandbox import programs
from cuckoo_zfsiscsi.errors import CancelledError, DeadlineExceededError, TargetError
from tests.disk.content import make_raw
from tests.iscsi import free_port
from tests.processes import processes
from tests.waiting import HANG, wait


@pytest.fixture
def tgtd(tmp_path: Path) -> Tgtd:
    return Tgtd("pc1", make_raw(tmp_path / "disk.raw"), ("127.0.0.1", free_port()), tmp_path)


def test_fenced_before_it_was_started(tgtd: Tgtd) -> None:
    tgtd.stop(Deadline(HANG))
    with pytest.raises(TargetError, match="pc1 was fenced before"):
        tgtd.start(Deadline(HANG))
    assert tgtd.ended() == ""


def test_one_that_is_not_up_in_time_is_gone(tgtd: Tgtd) -> None:
    with pytest.raises(DeadlineExceededError, match=r"the start of tgtd of pc1|tgtd's answer to"):
        tgtd.start(Deadline(0.0001))
    cancel = Cancel()
    cancel.set("enough")
    with pytest.raises(CancelledError):
        tgtd.stop(Deadline(HANG, cancel))
    tgtd.stop(Deadline(HANG))
    wanted = f"portal=127.0.0.1:{tgtd.portal[1]}".encode()
    wait(lambda: not any(wanted in line for line in processes().values()), what="it is there")


def test_a_start_and_a_stop_do_not_mix(tgtd: Tgtd) -> None:
    with (
        tgtd._held(Deadline(HANG)),
        pytest.raises(DeadlineExceededError, match="waiting for tgtd of pc1 to start or end"),
    ):
        tgtd.stop(Deadline(0.1))


def test_a_program_that_ends_at_once_is_quoted(tgtd: Tgtd, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {**programs(), "tgtd": "/usr/sbin/nothing"}
    monkeypatch.setattr(tgt_sandbox, "programs", lambda: found)
    with pytest.raises(TargetError, match=r"tgtd of pc1 ended with status 127: .*nothing"):
        tgtd.start(Deadline(HANG))
    tgtd.stop(Deadline(HANG))


def test_a_flood_of_lines_waits_for_us(tgtd: Tgtd, caplog: pytest.LogCaptureFixture) -> None:
    """As 85,000 of one guest in half a minute: nobody reads them, and the disk stays whole."""
    caplog.set_level(logging.DEBUG)
    for _ in range(_LINES):
        tgtd._take("\x1b[31mred")
    assert len(caplog.messages) == _LINES
    assert "\x1b" not in caplog.messages[0]
    begin = time.monotonic()
    for _ in range(20):
        tgtd._take("more")
    assert len(caplog.messages) == _LINES + 1
    assert "which is not logged" in caplog.messages[-1]
    assert time.monotonic() - begin > 0.1, "as fast as it can write"
    tgtd.stop(Deadline(HANG))
    begin = time.monotonic()
    for _ in range(100_000):
        tgtd._take("the last words")
    assert len(caplog.messages) == _LINES + 1

from __future__ import annotations

from pathlib import Path

import pytest

from cuckoo_zfsiscsi.service.events import Event
from cuckoo_zfsiscsi.service.history import History
from cuckoo_zfsiscsi.service.recent import KEEP, Recent


def boot(host: str, seconds: float, *, ok: bool = True) -> Event:
    stages = {"script": seconds - 5, "rpc": seconds - 1, "recovery": seconds + 2}
    return Event(host, "boot", ok, "ready", seconds=seconds, stages=stages)


def test_the_last_ones_are_known_after_a_restart(tmp_path: Path) -> None:
    history = History(tmp_path / "runs.sqlite")
    for number in range(1, KEEP + 6):
        history.note(boot("pc1", 10.0 + number))
    history.note(boot("pc1", 999.0, ok=False))
    history.note(boot("gone", 5.0))
    history.note(Event("pc1", "reset", True, "done", seconds=0.1))
    recent = Recent(["pc1", "pc2"])
    recent.load(history)
    recent.note(boot("pc1", 100.0))
    found = recent.recoveries("pc1")
    assert len(found) == KEEP
    assert found[0] == 10.0 + 7 + 2
    assert found[-2:] == [10.0 + KEEP + 5 + 2, 102.0]
    assert recent.boot_takes("pc1") == pytest.approx(10.0 + 7 + (KEEP - 1) / 2)
    assert recent.script_times("pc1") == [recovery - 7 for recovery in found]
    assert (recent.recoveries("pc2"), recent.boot_takes("pc2")) == ([], None)
    assert recent.script_times("pc2") == []
    history.close()


def test_a_history_that_can_not_be_read_is_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "bad.sqlite").write_bytes(b"no database" * 100)
    history = History(tmp_path / "bad.sqlite")
    Recent(["pc1"]).load(history)
    assert "can't be read" in caplog.text
    history.close()

"""The watch for huge commands without a kernel's tracepoint: a folder, and lines of Linux 6.1."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.disk.target.lio_commands import LARGEST, Commands, initiators
from tests.waiting import wait

LINES = """\
CPU:1 [LOST 12 EVENTS]
       iscsi_trx-412     [001] .....    31.416: target_sequencer_start: {} -> LUN 000 tag 0x3 \
WRITE_16 data_length 268435456  CDB 8a 00 00 00 00 00 00 00 00 00 00 08 00 00  (TA:SIMPLE C:00)
"""
ONE, OTHER = "iqn.2017-10.test.lio:pc1.g1-k3j9", "iqn.2017-10.test.lio:pc2.g7-x0q2"


@pytest.fixture
def instance(tmp_path: Path) -> Path:
    """Return where an earlier service has left what it had made."""
    made = tmp_path / "instances/iqn.test"
    (made / "events/target/target_sequencer_start").mkdir(parents=True)
    os.mkfifo(made / "trace_pipe")
    return made


def test_who_sent_it() -> None:
    assert initiators(LINES.format(ONE) * 3 + LINES.format(OTHER)) == {ONE, OTHER}
    assert initiators("") == set()


def test_told_as_they_arrive(tmp_path: Path, instance: Path) -> None:
    told: list[str] = []
    watch = Commands("iqn.test", told.append, tmp_path)
    event = instance / "events/target/target_sequencer_start"
    assert (event / "filter").read_text() == f"data_length > {LARGEST}"
    assert (event / "enable").read_text() == "1"
    kernel = os.open(instance / "trace_pipe", os.O_WRONLY)
    for who in (ONE, OTHER):
        os.write(kernel, LINES.format(who).encode())
        wait(lambda who=who: told[-1:] == [who], what="nobody is told")  # type: ignore[misc]
    watch.close()
    os.close(kernel)


def test_a_kernel_that_cannot_tell(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Commands("iqn.test", lambda _: None, tmp_path)
    (tmp_path / "instances").mkdir()
    with pytest.raises(FileNotFoundError):
        Commands("iqn.test", lambda _: None, tmp_path)
    assert not list((tmp_path / "instances").iterdir()), "nothing is left"

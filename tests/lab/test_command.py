from __future__ import annotations

from pathlib import Path

import pytest

from cuckoo_zfsiscsi.errors import LabError
from cuckoo_zfsiscsi.lab.command import LAST_WORDS, last_words, run
from tests.waiting import HANG


def test_what_it_printed(tmp_path: Path) -> None:
    assert run(["cat"], timeout=HANG, stdin=b"text") == "text"
    assert run(["pwd"], timeout=HANG, cwd=tmp_path).strip() == str(tmp_path)
    assert run(["sh", "-c", "echo $A"], timeout=HANG, env={"A": "b"}) == "b\n"


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["sh", "-c", "echo bad >&2; exit 3"], "status 3: bad"),
        (["sh", "-c", "echo out; exit 4"], "status 4: out"),
        (["no-such-program"], "no-such-program is missing"),
    ],
)
def test_failures(argv: list[str], said: str) -> None:
    with pytest.raises(LabError, match=said):
        run(argv, timeout=HANG)


def test_what_takes_too_long_tells_what_it_said() -> None:
    with pytest.raises(LabError, match="sleep 600 took longer than 0 s: it said nothing"):
        run(["sleep", "600"], timeout=0.2)
    with pytest.raises(LabError, match="took longer than 2 s: half way / stuck"):
        run(["sh", "-c", "echo half way; echo stuck; exec sleep 600"], timeout=2)


def test_last_words(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert last_words(log) == "can't be read: No such file or directory"
    log.touch()
    assert last_words(log) == "it said nothing"
    log.write_bytes(b"x" * 5000 + b"\n\x1b[2J one\r\n\ntwo\xff\n")
    assert last_words(log).endswith("x / one / two\ufffd")
    assert len(last_words(log)) == LAST_WORDS

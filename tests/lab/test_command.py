from __future__ import annotations

from pathlib import Path

import pytest

from cuckoo_zfsiscsi.errors import LabError
from cuckoo_zfsiscsi.lab.command import run


def test_what_it_printed(tmp_path: Path) -> None:
    assert run(["cat"], timeout=5, stdin=b"text") == "text"
    assert run(["pwd"], timeout=5, cwd=tmp_path).strip() == str(tmp_path)
    assert run(["sh", "-c", "echo $A"], timeout=5, env={"A": "b"}) == "b\n"


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["sh", "-c", "echo bad >&2; exit 3"], "status 3: bad"),
        (["sh", "-c", "echo out; exit 4"], "status 4: out"),
        (["no-such-program"], "no-such-program is missing"),
        (["sleep", "10"], "sleep took longer than 0 s"),
    ],
)
def test_failures(argv: list[str], said: str) -> None:
    with pytest.raises(LabError, match=said):
        run(argv, timeout=0.2)

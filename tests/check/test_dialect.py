from __future__ import annotations

import configparser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cuckoo_zfsiscsi.check import Finding
from cuckoo_zfsiscsi.check.dialect import as_cape, check_dialect
from cuckoo_zfsiscsi.config.ini import read_ini
from tests.config.sample import GOOD, edit


def find(folder: Path, text: str, **environ: str) -> list[Finding]:
    path = folder / "zfsiscsi.conf"
    path.write_text(text)
    return list(check_dialect(read_ini(path, environ)))


def test_nothing_to_say(tmp_path: Path) -> None:
    text = edit(("arch = x64", "arch = x64\nprewarm = on\nreserved = 1\nrpc_port = 135"),
                ("ra_prefix = fd99:0:0:1::/64", "ra_prefix = off"))  # fmt: skip
    assert find(tmp_path, text) == []


@pytest.mark.parametrize(
    ("change", "what", "fix"),
    [
        (("00:11:22:33:44:01", "001122334401"), "1122334401", "mac = 00:11:22:33:44:01"),
        (("snapshot = win10", "snapshot = 10"), "takes it for 10", "snapshot = x10"),
        (("snapshot = win10", "snapshot = On"), "takes it for True", "on, off"),
        (("tags = win10,x64", "tags = 0777"), "takes it for 777", "digits"),
    ],
)
def test_coercions(tmp_path: Path, change: tuple[str, str], what: str, fix: str) -> None:
    (finding,) = find(tmp_path, edit(change))
    assert finding.level == "warning"
    assert finding.where.startswith("[pc1] ")
    assert finding.where.endswith(change[1])
    assert what in finding.what
    assert fix in finding.fix


def test_environment(tmp_path: Path) -> None:
    text = edit(("snapshot = win10", "snapshot = %(ENV:IMAGE)s"))
    (finding,) = find(tmp_path, text, IMAGE="win11")
    assert finding.where == "[pc1] snapshot = win11"
    assert "environment" in finding.what


def test_keys_of_others_are_theirs(tmp_path: Path) -> None:
    assert find(tmp_path, edit(("[storage]", "dsn = 0123\n[storage]"))) == []
    assert find(tmp_path, GOOD) == []


@given(
    st.sampled_from(["0", "1", "yes", "No", "TRUE", "off", "0123", "+5", "1_0", "1.5", "a", "-0"])
    | st.text(alphabet="0123456789onfyes_+-", min_size=1)
)
def test_as_cape_is_what_cape_does(text: str) -> None:
    config = configparser.ConfigParser()
    config["a"] = {"b": text}
    expected: bool | int | str
    try:  # lib/cuckoo/common/config.py
        if text in {"0", "1"}:
            raise ValueError
        expected = config.getboolean("a", "b")
    except ValueError:
        try:
            expected = config.getint("a", "b")
        except ValueError:
            expected = config.get("a", "b")
    assert as_cape(text) == expected
    assert type(as_cape(text)) is type(expected)

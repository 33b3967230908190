from __future__ import annotations

import configparser
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.config.ini import Ini, read_ini
from tests.config.sample import SECRET


def parse(folder: Path, text: str, **environ: str) -> Ini:
    path = folder / "x.conf"
    path.write_text(text, encoding="utf-8")
    return read_ini(path, environ)


def as_cape(folder: Path, text: str, **environ: str) -> dict[str, dict[str, str]]:
    """Read as CAPE does, without its coercions."""
    escaped = {f"ENV:{key}": value.replace("%", "%%") for key, value in environ.items()}
    config = configparser.ConfigParser(escaped)
    (folder / "y.conf").write_text(text, encoding="utf-8")
    config.read([folder / "y.conf"])
    return {
        section: {k: v for k, v in config.items(section) if not k.startswith("env:")}
        for section in config.sections()
    }


def test_reads_what_cape_reads(tmp_path: Path) -> None:
    text = (
        "; a comment\n# another\n[a]\nKEY = on\nnumber=0123\ncolon: x\nurl = http://h:1/?a=b%%20\n"
        "home = %(ENV:Place)s/x\nback = %(number)s-%(colon)s\n\n[b]\nunicode = \u00e9\n"
    )
    environ = {"Place": "/opt/100%"}
    ini = parse(tmp_path, text, **environ)
    assert ini.mistakes == ()
    assert ini.sections == as_cape(tmp_path, text, **environ)
    assert ini.sections["a"]["home"] == "/opt/100%/x"
    assert ini.sections["a"]["number"] == "0123"
    assert ini.from_environment == {("a", "home")}


def test_environment_names_that_differ_in_case_alone(tmp_path: Path) -> None:
    ini = parse(tmp_path, "[a]\nb = %(ENV:x)s\n", X="1", x="1")
    assert ini.sections == {"a": {"b": "1"}}


def test_first_of_two_keys_counts(tmp_path: Path) -> None:
    ini = parse(tmp_path, "[a]\nb = 1\nc = 2\nb = 3\n more\nd = 4\n[a]\ne = 5\n")
    assert ini.sections == {"a": {"b": "1", "c": "2", "d": "4"}}
    assert [m.key for m in ini.mistakes] == ["b", ""]
    assert f"sed -i 4d {tmp_path / 'x.conf'}" in ini.mistakes[0].fix


def test_many_lines_that_are_nothing(tmp_path: Path) -> None:
    ini = parse(tmp_path, "x\ny\n[a]\nfoo\nbar\nb = 1\n")
    assert ini.sections == {"a": {"b": "1"}}
    assert [m.reason.split()[1] for m in ini.mistakes] == ["1", "2", "4", "5"]


@pytest.mark.parametrize(
    "text",
    [
        f"[a]\npower_password {SECRET}\n",
        f"{SECRET}\n[a]\n",
        f"[a]\nb = 1\n  password = {SECRET}\n",
        f"[a]\nb = 1 # {SECRET}\n",
        f"[a]\npassword = {SECRET}%\n",
        f"[a]\npassword = {SECRET} # mine\n",
        f"[a]\npower = ipmi://a:{SECRET}@h # mine\n",
        f"[a]\nb = ipmi://a:{SECRET}@h%\n",
        f"[a]\nb = 1\npassword = {SECRET}\npassword = {SECRET}\n",
    ],
)
def test_secrets_are_not_told(tmp_path: Path, text: str) -> None:
    found = parse(tmp_path, text).mistakes
    assert found
    assert SECRET not in "".join(map(repr, found)) + "".join(map(str, found))


def test_key_that_leads_nowhere_twice(tmp_path: Path) -> None:
    ini = parse(tmp_path, "[a]\nb = %(c)s\nc = %(b)s\n")
    assert {m.key for m in ini.mistakes} == {"b", "c"}
    assert ini.wrong == {("a", "b"), ("a", "c")}

from __future__ import annotations

from pathlib import Path

import pytest

from cuckoo_zfsiscsi.lab.appliance import sources
from cuckoo_zfsiscsi.lab.command import HANG, run


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("deb http://m.example/d bookworm main", "deb http://m.example/d bookworm main contrib"),
        (
            "deb [signed-by=/k.gpg arch=amd64] http://m.example/d bookworm main non-free-firmware",
            "deb [signed-by=/k.gpg arch=amd64] http://m.example/d bookworm main contrib"
            " non-free-firmware",
        ),
        ("deb http://m.example/d bookworm contrib main", None),
        ("deb http://m.example/d bookworm main contrib", None),
        ("deb http://m.example/d nodistro universe", None),
        ("deb-src http://m.example/d bookworm main", None),
        ("# deb http://m.example/d bookworm main", None),
    ],
)
def test_a_line_of_sources_list(line: str, found: str | None) -> None:
    other = "deb http://o.example/d sid main contrib\n"
    text = f"{other}{line}\n{other}"
    assert sources.with_contrib(text, ".list") == f"{other}{found or line}\n{other}"


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("Components: main", "Components: main contrib"),
        ("components:main", "components:main contrib"),
        ("Components: main non-free", "Components: main contrib non-free"),
        ("Components: contrib main", None),
        ("Components: main contrib", None),
        ("Components: universe", None),
        ("Suites: main", None),
    ],
)
def test_a_deb822_file(line: str, found: str | None) -> None:
    rest = "Types: deb\nURIs: http://m.example/main\nSuites: sid\n{}\nSigned-By:\n -----BEGIN\n"
    text = f"{rest.format(line)}\n{rest.format('Components: main contrib')}"
    expected = f"{rest.format(found or line)}\n{rest.format('Components: main contrib')}"
    assert sources.with_contrib(text, ".sources") == expected


def test_this_machine_has_sources() -> None:
    assert sources.files()


def test_the_view(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real apt reads it, and asks the mirrors of our files for contrib, below our directory."""
    file = tmp_path / "mine.list"
    file.write_text("deb [trusted=yes] copy:/nowhere/debian bookworm main\n")
    other = tmp_path / "other.sources"
    other.write_text("Types: deb\nURIs: copy:/else\nSuites: sid\nComponents: main\nTrusted: yes\n")
    monkeypatch.setattr(sources, "files", lambda: [file, other])
    (tmp_path / "view/sources").mkdir(parents=True)
    (tmp_path / "view/sources/old.list").write_text("deb copy:/gone bookworm main\n")
    view = sources.view(tmp_path / "view")
    uris = run(["apt-get", *view, "update", "--print-uris"], timeout=HANG)
    assert "copy:/nowhere/debian/dists/bookworm/InRelease" in uris
    assert "copy:/else/dists/sid/InRelease" in uris
    assert "gone" not in uris
    assert "main contrib" in (tmp_path / "view/sources/mine.list").read_text()
    dump = run(["apt-config", *view, "shell", "x", "Dir::State::lists/d"], timeout=HANG)
    assert dump.strip() == f"x='{tmp_path}/view/lists/'"

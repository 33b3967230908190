from __future__ import annotations

import os
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.deadline import Cancel, Deadline
from cuckoo_zfsiscsi.errors import CancelledError, DeadlineExceededError, ImageError, NetbootError
from cuckoo_zfsiscsi.netboot import iso
from cuckoo_zfsiscsi.progress import silent
from tests.netboot.windows_iso import CONTENT, NOTE, make_iso
from tests.waiting import HANG


def extract(medium: Path, name: str, to: Path) -> bytes:
    iso.extract(medium, name, to, Deadline(HANG), silent)
    return to.read_bytes()


def test_what_is_in_the_udf_tree_counts(tmp_path: Path) -> None:
    upper = {name.upper(): data for name, data in CONTENT.items()}
    medium = make_iso(tmp_path / "-win 10.iso", upper)
    wanted = {name: len(data) for name, data in CONTENT.items()}
    assert iso.sizes(medium, Deadline(HANG)) == wanted
    for name, data in CONTENT.items():
        assert extract(medium, name, tmp_path / "out") == data
    assert NOTE in medium.read_bytes(), "what others find on it"


def test_a_medium_of_more_than_4_gb(tmp_path: Path) -> None:
    """As many are: 32 bits are not enough for what is behind a big install.wim."""
    medium = make_iso(tmp_path / "win.iso")
    os.truncate(medium, 5 << 30)  # what is behind the end is a warning of 7-Zip's
    assert extract(medium, "sources/boot.wim", tmp_path / "out") == CONTENT["sources/boot.wim"]


def test_what_can_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ImageError, match="No such file") as caught:
        iso.sizes(tmp_path / "none.iso", Deadline(HANG))
    assert "--iso" in caught.value.fix
    other = tmp_path / "other.iso"
    other.write_bytes(os.urandom(100_000))
    with pytest.raises(
        ImageError, match="is no image of an installation medium, or not a whole one"
    ):
        iso.sizes(other, Deadline(HANG))
    medium = make_iso(tmp_path / "win.iso")
    os.truncate(medium, 1_000_000)
    with pytest.raises(ImageError, match="can't be read from") as caught:
        extract(medium, "sources/boot.wim", tmp_path / "out")
    assert "7z t " in caught.value.fix
    monkeypatch.setattr(iso, "PROGRAM", "7z-that-is-not-there")
    for call in (iso.sizes, lambda a, b: iso.extract(a, "x", tmp_path / "o", b, silent)):
        with pytest.raises(NetbootError, match="not installed") as missing:
            call(medium, Deadline(HANG))
        assert missing.value.fix == "apt install p7zip-full"


def test_it_ends_when_it_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hanging = tmp_path / "hangs"
    hanging.write_text("#!/bin/sh\nexec sleep 1000\n")
    hanging.chmod(0o755)
    monkeypatch.setattr(iso, "PROGRAM", str(hanging))
    medium, cancel = make_iso(tmp_path / "win.iso"), Cancel()
    with pytest.raises(DeadlineExceededError):
        iso.sizes(medium, Deadline(0.2))
    told: list[int] = []

    def progress(done: int, _total: int) -> None:
        told.append(done)
        cancel.set("Ctrl-C")

    with pytest.raises(CancelledError):
        iso.extract(medium, "x", tmp_path / "out", Deadline(HANG, cancel), progress)
    assert told == [0]

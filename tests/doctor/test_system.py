from __future__ import annotations

from pathlib import Path

import pytest

from cuckoo_zfsiscsi.doctor import system
from cuckoo_zfsiscsi.doctor.system import Answer, StuckError, System, run_command


def test_command() -> None:
    assert run_command(["sh", "-c", "echo out; echo err >&2; exit 3"]) == Answer(
        3, "out\n", "err\n"
    )
    assert run_command(["no-such-program"]) is None


def test_command_of_another_language(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    assert run_command(["sh", "-c", "echo $LC_ALL"]) == Answer(0, "C.UTF-8\n")


def test_command_that_is_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "TIMEOUT", 0.1)
    with pytest.raises(StuckError, match="`sleep 1000` does not end") as caught:
        run_command(["sleep", "1000"])
    assert caught.value.fix


def test_answer() -> None:
    assert Answer(1, "", "cannot open 'tank': no such pool\nmore\n").reason == (
        "cannot open 'tank': no such pool"
    )
    assert Answer(7, "").reason == "status 7"
    assert Answer(0, "a\t1\nb\t\n").pairs("\t") == {"a": "1", "b": ""}


def test_files(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/os-release").write_text('NAME="Ubuntu"\nID=ubuntu\n\nVERSION_ID="24.04"\n')
    (tmp_path / "speed").write_text("-1\n")
    (tmp_path / "bad").write_bytes(b"\xff\n")
    view = System(root=tmp_path)
    assert view.distribution == "ubuntu"
    assert (view.number("/speed"), view.number("/bad"), view.number("/none")) == (-1, None, None)
    assert (view.read("/bad"), view.read("/etc"), view.read("/none")) == ("\ufffd", None, None)
    assert (view.names("/"), view.names("/none")) == (["bad", "etc", "speed"], [])
    assert view.exists("/etc")
    assert not view.exists("/none")
    assert (view.release, System(root=tmp_path / "none").distribution) == ("", "")


def test_this_machine() -> None:
    view = System()
    assert view.release
    assert view.distribution
    assert view.clock() in (True, False)
    assert view.is_root

"""The entry point, python -m cuckoo_zfsiscsi."""

from __future__ import annotations

import sys

import pytest

from cuckoo_zfsiscsi import __version__
from cuckoo_zfsiscsi.__main__ import main
from cuckoo_zfsiscsi.cli import groups


def miss(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    """Let a command need a package that is not there."""

    def load(_module: str) -> None:
        raise ModuleNotFoundError(f"No module named {package!r}", name=package)

    monkeypatch.setattr(groups, "load", load)
    monkeypatch.setattr(sys, "argv", ["zfsiscsi", "nonsense"])


def test_it_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["zfsiscsi", "--version"])
    assert main() == 0
    assert capsys.readouterr().out == f"zfsiscsi {__version__}\n"


def test_a_package_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    miss(monkeypatch, "pydantic")
    assert main() == 1
    said = capsys.readouterr().err
    assert said == 'error: pydantic is not installed\nfix: pip install "cuckoo-zfsiscsi[server]"\n'


def test_a_module_of_ours_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """That is a mistake in here: its traceback is what is needed then."""
    miss(monkeypatch, "cuckoo_zfsiscsi.cli.nonsense")
    with pytest.raises(ModuleNotFoundError):
        main()

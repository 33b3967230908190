from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.cape import rooter as asked
from cuckoo_zfsiscsi.cape.rooter import RooterError, ask, rooter_socket
from cuckoo_zfsiscsi.cape.tree import CapeTree
from tests.cape import rooter
from tests.cape.tree import configure, make


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cuckoo-rooter"


def test_its_socket(tmp_path: Path) -> None:
    root = make(tmp_path / "CAPEv2")
    assert rooter_socket(CapeTree(root)) == Path("/tmp/cuckoo-rooter")
    configure(root, "cuckoo", "[cuckoo]\nrooter = /run/rooter\n")
    assert rooter_socket(CapeTree(root)) == Path("/run/rooter")


def test_it_answers(path: Path) -> None:
    with rooter.play(path) as commands:
        ask(path)
    assert commands == ["nic_available"]


@pytest.mark.parametrize("answer", [b"[]", b'{"exception": null}'])
def test_it_is_somebody_else(path: Path, answer: bytes) -> None:
    with rooter.play(path, answers=answer), pytest.raises(RooterError, match="as CAPE's rooter"):
        ask(path)


def test_it_says_nothing_that_can_be_read(path: Path) -> None:
    with rooter.play(path, answers=b"\xff"), pytest.raises(RooterError, match="no JSON"):
        ask(path)


def test_it_hangs(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asked, "TIMEOUT", 0.1)
    with rooter.play(path, silent=True), pytest.raises(RooterError, match="does not answer"):
        ask(path)


def test_it_is_not_there(path: Path) -> None:
    with pytest.raises(RooterError, match="is not there"):
        ask(path)


def test_it_has_ended(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(path))
    with pytest.raises(RooterError, match="left from one that has ended"):
        ask(path)


def test_something_else_is_there(path: Path) -> None:
    path.mkdir()
    with pytest.raises(RooterError, match="is left from"):
        ask(path)


def test_who_may_not_ask(path: Path) -> None:
    with rooter.play(path):
        path.chmod(0o600)
        os.seteuid(65534)
        try:
            with pytest.raises(PermissionError):
                ask(path)
        finally:
            os.seteuid(0)

from __future__ import annotations

from pathlib import Path

import pytest

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.target import Session
from cuckoo_zfsiscsi.disk.target.tgt_ipc import Ipc
from cuckoo_zfsiscsi.disk.target.tgt_logins import logins
from tests.waiting import HANG

TEXT = """\
Session: 5
    Connection: 1
        Initiator: iqn.2017-10.test:pc1.g1
        IP Address: 10.99.0.11
Session: 6
    Connection: 0
        Initiator: iqn.2017-10.test:pc1.g1
        
"""  # noqa: W293 - as tgtd writes it


def test_a_session_without_an_address_is_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ipc = Ipc(tmp_path / "s")
    monkeypatch.setattr(ipc, "call", lambda *_, **__: TEXT)
    assert logins(ipc, 1, Deadline(HANG)) == [
        Session("iqn.2017-10.test:pc1.g1", "10.99.0.11", 5),
        Session("iqn.2017-10.test:pc1.g1", "", 6),
    ]

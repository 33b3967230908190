from __future__ import annotations

from typing import Any

import pytest

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.target.tgt_ipc import Ipc
from cuckoo_zfsiscsi.disk.target.tgt_logins import Login, Logins
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
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    ipc = Ipc(tmp_path / "s")
    monkeypatch.setattr(ipc, "call", lambda *_, **__: TEXT)
    logins = Logins(ipc, ["127.0.0.1"], [3260])
    assert logins.up(1, Deadline(HANG)) == [
        Login("iqn.2017-10.test:pc1.g1", "10.99.0.11", 5, 1),
        Login("iqn.2017-10.test:pc1.g1", "", 6, 0),
    ]


def test_cuts_only_what_it_knows(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    ran: list[list[str]] = []

    def run(argv: list[str], **_: object) -> None:
        ran.append(argv)
        raise FileNotFoundError("ss")  # a server without iproute2: the deadline ends the wait

    monkeypatch.setattr("subprocess.run", run)
    logins = Logins(Ipc(tmp_path / "s"), ["10.99.0.1", "10.99.20.1"], [3271, 3272])
    logins._cut({"10.99.0.11", ""}, Deadline(HANG))
    own = "( src 10.99.0.1 or src 10.99.20.1 ) and ( sport = :3271 or sport = :3272 )"
    wanted = f"{own} and dst 10.99.0.11"
    assert ran == [["ss", "-K", "-H", "-n", "-t", wanted]]

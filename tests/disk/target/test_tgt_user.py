from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.disk.target.tgt_user import acting_as

USER = 0x70000001


def test_one_thread_alone_is_another_user(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.touch(0o600)
    found: list[int] = []
    with acting_as(USER):
        assert (os.geteuid(), os.getegid(), os.getuid()) == (USER, USER, 0)
        with pytest.raises(PermissionError):
            mine.read_text()
        other = threading.Thread(target=lambda: found.extend((os.geteuid(), os.getegid())))
        # A new thread is as the one that made it: what counts is one that was there before
        other.start()
        other.join()
        assert found == [USER, USER]
    assert (os.geteuid(), os.getegid()) == (0, 0)
    assert mine.read_text() == ""


def test_the_others_keep_their_rights(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.touch(0o600)
    changed, done = threading.Event(), threading.Event()

    def work() -> None:
        with acting_as(USER):
            changed.set()
            done.wait()

    thread = threading.Thread(target=work)
    thread.start()
    changed.wait()
    try:
        assert os.geteuid() == 0
        assert mine.read_text() == ""
    finally:
        done.set()
        thread.join()


def test_it_is_itself_again_after_an_error() -> None:
    with pytest.raises(ValueError, match="whatever"), acting_as(USER):
        raise ValueError("whatever")
    assert (os.geteuid(), os.getegid()) == (0, 0)


def test_who_may_not() -> None:
    with acting_as(USER), pytest.raises(OSError, match="setresgid: Operation not permitted"):
        acting_as(USER + 1).__enter__()
    assert (os.geteuid(), os.getegid()) == (0, 0)

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.disk import block


def refuse(monkeypatch: pytest.MonkeyPatch, number: int, times: int) -> list[int]:
    """Let os.open() fail so many times; return what grows with each attempt."""
    attempts: list[int] = []
    real = os.open

    def opening(path: Path, flags: int) -> int:
        attempts.append(flags)
        if len(attempts) <= times:
            raise OSError(number, "refused", str(path))
        return real(path, flags)

    monkeypatch.setattr(os, "open", opening)
    return attempts


def test_opens_again_while_pools_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "disk").write_bytes(b"data")
    attempts = refuse(monkeypatch, block.ERESTARTSYS, 3)
    handle = block.open_block(tmp_path / "disk", os.O_RDONLY)
    assert os.read(handle, 4) == b"data"
    assert not os.get_inheritable(handle)
    os.close(handle)
    assert len(attempts) == 4


def test_not_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block, "PATIENCE", 0.05)
    attempts = refuse(monkeypatch, block.ERESTARTSYS, 10_000)
    with pytest.raises(OSError, match="refused"):
        block.open_block(tmp_path / "disk", os.O_RDONLY)
    assert len(attempts) > 1


def test_any_other_error_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    attempts = refuse(monkeypatch, errno.EBUSY, 1)
    with pytest.raises(OSError, match="refused"):
        block.open_block(tmp_path / "disk", os.O_RDONLY)
    assert len(attempts) == 1

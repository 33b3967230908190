"""The filter's effect is looked at in tests/attacks/test_tgt.py, from inside."""

from __future__ import annotations

import sys

import pytest

from cuckoo_zfsiscsi.disk.target.tgt_calls import program
from cuckoo_zfsiscsi.errors import TargetError


def test_it_is_a_program() -> None:
    assert len(program()) % 8 == 0  # struct sock_filter
    assert 50 * 8 < len(program()) < 4096 * 8


def test_without_libseccomp(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyseccomp", None)
    program.cache_clear()
    with pytest.raises(TargetError, match="needs libseccomp") as caught:
        program()
    assert caught.value.fix == "apt install libseccomp2"

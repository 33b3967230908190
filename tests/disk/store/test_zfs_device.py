from __future__ import annotations

from dataclasses import replace

import pytest

from cuckoo_zfsiscsi.disk.store.zfs_device import Writes

NEW = Writes(12, 0xE600, 0, 0, 0, 0, 0)


def test_a_new_device_was_not_written() -> None:
    assert not NEW.was_written


@pytest.mark.parametrize("count", ["writes", "sectors", "discards", "discarded", "pending"])
def test_whatever_was_submitted_shows(count: str) -> None:
    assert replace(NEW, **{count: 1}).was_written

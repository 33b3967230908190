from __future__ import annotations

from pathlib import Path

import pytest

from cuckoo_zfsiscsi.disk import kernel_file


def test_what_the_kernel_says() -> None:
    name = Path("/proc/sys/kernel/ostype")
    assert kernel_file.read(name) == b"Linux\n" == kernel_file.read(str(name))


def test_what_is_gone(tmp_path: Path) -> None:
    before = set(Path("/proc/self/fd").iterdir())
    with pytest.raises(FileNotFoundError):
        kernel_file.read(tmp_path / "gone")
    with pytest.raises(IsADirectoryError):
        kernel_file.read(tmp_path)
    assert set(Path("/proc/self/fd").iterdir()) == before, "a handle is left open"

from __future__ import annotations

from ipaddress import IPv4Address
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.netboot.resolver import find_resolver

OWN = {IPv4Address("10.99.0.1"), IPv4Address("192.168.1.2")}


@pytest.mark.parametrize(
    ("first", "second", "found"),
    [
        ("nameserver 192.168.1.1\nnameserver 9.9.9.9\n", "", "192.168.1.1"),
        ("# by hand\nsearch lab\n  nameserver 9.9.9.9 # public\n", "", "9.9.9.9"),
        ("nameserver 127.0.0.53\n", "nameserver 9.9.9.9\n", "9.9.9.9"),
        ("nameserver 10.99.0.1\nnameserver 192.168.1.2\nnameserver 9.9.9.9\n", "", "9.9.9.9"),
        ("nameserver fe80::1%eth0\nnameserver 2620:fe::fe\n", "nameserver 9.9.9.9", "9.9.9.9"),
        ("nameserver\nnameserver here\noptions edns0\n", "", None),
        ("nameserver 127.0.0.1\n", None, None),
        ("nameserver 0.0.0.0\n", None, None),
    ],
)
def test_find_resolver(tmp_path: Path, first: str, second: str | None, found: str | None) -> None:
    files = [tmp_path / "one", tmp_path / "two"]
    for file, text in zip(files, (first, second), strict=True):
        if text is not None:
            file.write_text(text)
    assert find_resolver(OWN, files) == (found and IPv4Address(found))

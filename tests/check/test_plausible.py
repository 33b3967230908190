from __future__ import annotations

from pathlib import Path

import pytest

from cuckoo_zfsiscsi.check.plausible import check_plausible
from tests.config.sample import GOOD, edit, read

NO_TOKEN = ("token_file = /etc/zfsiscsi/token", "service = unix:///run/x")


def test_nothing_to_say(tmp_path: Path) -> None:
    assert list(check_plausible(read(tmp_path, GOOD))) == []
    assert list(check_plausible(read(tmp_path, edit(NO_TOKEN)))) == []


@pytest.mark.parametrize(
    ("change", "where", "what"),
    [
        (("portal = 10.99.0.1", "portal = 10.97.0.1"), "[storage] portal", "no gateway"),
        (("[storage]", "service = http://10.99.0.1:8470\n[storage]"),
         "[zfsiscsi] service", "malware"),
        (("[storage]", "service = http://0.0.0.0:8470\n[storage]"),
         "[zfsiscsi] service", "malware"),
        (("ra_prefix = fd99:0:0:1::/64\n", ""), "[netboot] ra_prefix", "13 s"),
        (("arch = x64", "arch = x64\nboot_timeout = 290"), "[pc1] boot_timeout = 290", "gives up"),
        (("tags = win10,x64", "tags = x64"), "[pc1] tags", "which Windows"),
        (("tags = win10,x64", "tags = win10"), "[pc1] tags", "64-bit"),
    ],
)  # fmt: skip
def test_warnings(tmp_path: Path, change: tuple[str, str], where: str, what: str) -> None:
    (finding,) = check_plausible(read(tmp_path, edit(change)))
    assert finding.level == "warning"
    assert finding.where.startswith(where)
    assert what in finding.what
    assert finding.fix

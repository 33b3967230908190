from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from cuckoo_zfsiscsi.disk.target import Credentials, Export
from cuckoo_zfsiscsi.errors import NetbootError
from cuckoo_zfsiscsi.netboot.script import render

WHO = Credentials("iqn.2026-01.org.example:pc1.g7", "pc1.g7", "S3cretS3cretS3cr")
EXPORT = Export("10.99.0.1", 3260, "iqn.2026-01.org.example:pc1", 1, WHO)


def test_script() -> None:
    assert render(EXPORT).splitlines() == [
        "#!ipxe",
        "# Boots iqn.2026-01.org.example:pc1 by iSCSI, and tries for ever: "
        "firmware that gets control back may stop.",
        "set initiator-iqn iqn.2026-01.org.example:pc1.g7",
        "set username pc1.g7",
        "set password S3cretS3cretS3cr",
        "set pause:int32 1",
        ":try",
        "sanboot --drive 0x80 iscsi:10.99.0.1::3260:1:iqn.2026-01.org.example:pc1 ||",
        "sanunhook --drive 0x80 ||",
        "echo iqn.2026-01.org.example:pc1 does not boot, next try in ${pause} s",
        "sleep ${pause}",
        "iseq ${pause} 10 || inc pause",
        "goto try",
    ]


def test_never_keeps_a_failed_drive() -> None:
    assert "keep-san" not in render(EXPORT)


def test_lun_is_hexadecimal() -> None:
    assert ":3261:1f:" in render(dataclasses.replace(EXPORT, port=3261, lun=31))


@pytest.mark.parametrize("bad", ["x\nshell", "x y", "${mac}", "x||shell", "", "x#y", "x\r"])
@pytest.mark.parametrize("field", ["portal", "target", "initiator", "user", "secret"])
def test_no_value_can_add_a_command(field: str, bad: str) -> None:
    change: dict[str, Any] = {field: bad}
    if field not in ("portal", "target"):
        change = {"credentials": dataclasses.replace(WHO, **change)}
    with pytest.raises(NetbootError) as caught:
        render(dataclasses.replace(EXPORT, **change))
    assert not bad or bad not in str(caught.value), "the text may be a secret"

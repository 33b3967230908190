from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from cuckoo_zfsiscsi.disk.target import Credentials, Export
from cuckoo_zfsiscsi.errors import NetbootError
from cuckoo_zfsiscsi.netboot.medium import Medium
from cuckoo_zfsiscsi.netboot.script import render, render_menu, render_once, render_waits

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
        "# No gateway, whoever gave one: the disk's traffic stays in the hosts' network.",
        "set netX/gateway 0.0.0.0 ||",
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


def test_installer_gets_the_disk_while_it_does_not_boot() -> None:
    lines = render(EXPORT, "http://10.99.0.1/win10/install.ipxe").splitlines()
    where = "iscsi:10.99.0.1::3260:1:iqn.2026-01.org.example:pc1"
    order = [
        "set password S3cretS3cretS3cr",
        f"sanboot --drive 0x80 {where} ||",
        "sanunhook --drive 0x80 ||",
        "set keep-san 1",
        f"sanhook --drive 0x80 {where} || goto failed",
        "chain http://10.99.0.1/win10/install.ipxe ||",
        "reboot",
    ]
    assert [line for line in lines if line in order] == order


def test_windows_is_started_with_the_disk_attached(tmp_path: Path) -> None:
    for name, size in (("boot.wim", 9), ("BCD", 1), ("wimboot", 2), ("boot.sdi", 5)):
        (tmp_path / name).write_bytes(bytes(size))
    lines = render(EXPORT, Medium(tmp_path, "http://10.99.0.1:8471/install/")).splitlines()
    where = "iscsi:10.99.0.1::3260:1:iqn.2026-01.org.example:pc1"
    order = [
        f"sanboot --drive 0x80 {where} ||",
        "set keep-san 1",
        f"sanhook --drive 0x80 {where} || goto failed",
        "kernel --name wimboot http://10.99.0.1:8471/install/wimboot || goto failed",
        "initrd --name BCD http://10.99.0.1:8471/install/BCD BCD || goto failed",
        "initrd --name boot.sdi http://10.99.0.1:8471/install/boot.sdi boot.sdi || goto failed",
        "initrd --name boot.wim http://10.99.0.1:8471/install/boot.wim boot.wim || goto failed",
        "boot ||",
        "reboot",
    ]
    assert [line for line in lines if line in order] == order
    assert not [line for line in lines if line.startswith("chain")]
    (tmp_path / "x || shell").touch()
    with pytest.raises(NetbootError, match="a file's name"):
        render(EXPORT, Medium(tmp_path, "http://10.99.0.1:8471/install/"))


@pytest.mark.parametrize(
    "bad",
    ["ftp://x/y", "http://x/y z", "http://x/${mac}", "http://x/y\nshell", "http://x/y||shell", ""],
)
def test_installer_can_add_no_command(bad: str) -> None:
    with pytest.raises(NetbootError, match="the installer's URL"):
        render(EXPORT, bad)


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


def test_menu_has_no_disk_and_asks_again() -> None:
    script = render_menu("pc1")
    assert script.startswith("#!ipxe\n")
    assert "zfsiscsi maintenance pc1 off" in script
    for word in ("sanboot", "sanhook", "username", "password", "initiator-iqn"):
        assert word not in script
    items = re.findall(r"^item (\S+)", script, re.MULTILINE)
    assert [f":{item}" in script.splitlines() for item in items] == [True] * 5
    assert "--timeout 60000" in script
    (again,) = re.findall(r"^chain --replace (\S+) ", script, re.MULTILINE)
    assert again == "boot.ipxe?mac=${netX/mac:hexhyp}", "with colons iPXE reads a protocol"
    for bad in ("pc1\nshell", "a b", "${mac}", ""):
        with pytest.raises(NetbootError, match="label"):
            render_menu(bad)


@pytest.mark.parametrize("script", render_waits())
def test_wait_holds_nothing_and_asks_for_ever(script: str) -> None:
    lines = script.splitlines()
    assert lines[0] == "#!ipxe"
    assert lines[-1] == "goto again"
    assert ":again" in lines
    assert "chain --replace --autofree boot.ipxe?mac=${netX/mac} ||" in lines, "from here, by HTTP"
    assert not re.search(r"san|iqn|username|password|exit|reboot", script)


def test_a_crowd_that_waits_comes_apart() -> None:
    pauses = [re.findall(r"^sleep (\d+)$", script, re.MULTILINE)[0] for script in render_waits()]
    assert len(set(pauses)) == len(pauses) > 2


def test_the_target_proves_itself_if_it_is_told_to() -> None:
    mutual = dataclasses.replace(
        WHO, reverse_user="pc1.g7.target", reverse_secret="0therSecret0ther"
    )
    export = dataclasses.replace(EXPORT, credentials=mutual)
    for script in (render(export), render(export, "http://10.99.0.1/x"), render_once(export, None)):
        lines = script.splitlines()
        at = lines.index("set password S3cretS3cretS3cr")
        assert lines[at + 1 : at + 3] == [
            "set reverse-username pc1.g7.target",
            "set reverse-password 0therSecret0ther",
        ]
    for change in ({"reverse_user": "x\nshell"}, {"reverse_secret": "x y"}, {"reverse_secret": ""}):
        with pytest.raises(NetbootError, match="the target's CHAP"):
            render(dataclasses.replace(export, credentials=dataclasses.replace(mutual, **change)))
    assert "0therSecret0ther" not in repr(export)

from __future__ import annotations

from cuckoo_zfsiscsi.doctor.disks import check_disks
from tests.doctor.server import ZDB, Server


def test_well(server: Server) -> None:
    said = [finding.what for finding in server.find(check_disks)]
    assert said == ["is 12", "is on, for sda1"]  # sdb can't discard, the file is no disk


def test_sectors_larger_than_ashift(server: Server) -> None:
    server.say("zdb -C", ZDB.replace("ashift: 12\n", "ashift: 12\n                ashift: 9\n"))
    one = server.problem(check_disks)
    assert (one.level, one.what) == (
        "warning", "is 9, but a disk has sectors of 4096 bytes: writes are slow"
    )  # fmt: skip
    assert "-o ashift=12" in one.fix


def test_small_sectors(server: Server) -> None:
    server.say("zdb -C", ZDB.replace("12", "9"))
    server.say("zpool list -HPLv -o name tank", "tank\n\t/dev/sdb\n")
    one = server.problem(check_disks)
    assert one.level == "info"
    assert "4 KiB" in one.what


def test_zdb_does_not_know_the_pool(server: Server) -> None:
    server.say("zdb -C", ZDB.replace("tank:", "other:"))
    one = server.problem(check_disks)
    assert (one.level, one.fix) == (
        "info", "zpool set cachefile=/etc/zfs/zpool.cache tank"
    )  # fmt: skip


def test_no_autotrim(server: Server) -> None:
    server.say("zpool get -Hp -o value autotrim tank", "off\n")
    one = server.problem(check_disks)
    assert (one.level, one.fix) == ("warning", "zpool set autotrim=on tank; zpool trim tank")
    server.say("zpool list -HPLv -o name tank", "tank\n\t/dev/sdb\n")
    assert [finding.level for finding in server.find(check_disks)] == ["ok"]  # nothing to trim


def test_no_pool(server: Server) -> None:
    server.say("zpool list -HPLv -o name tank", code=1)
    assert server.find(check_disks) == []  # the check of the pool says so

from __future__ import annotations

import pytest

from cuckoo_zfsiscsi.doctor.pool import check_pool
from tests.doctor.server import Server

ASKED = "zpool get -Hp -o property,value"


def test_no_such_pool(server: Server) -> None:
    server.say(ASKED, code=1, err="cannot open 'tank': no such pool\n")
    one = server.problem(check_pool)
    assert (one.level, one.where) == ("error", "[storage] pool = tank")
    assert one.what == "cannot open 'tank': no such pool"
    assert "zpool import" in one.fix


def test_no_zpool(server: Server) -> None:
    server.says[ASKED] = None
    assert server.problem(check_pool).fix == "apt install zfsutils-linux"


@pytest.mark.parametrize(
    ("health", "level", "fix"),
    [
        ("DEGRADED", "warning", "zpool replace tank OLD NEW"),
        ("SUSPENDED", "error", "zpool clear tank"),
        ("FAULTED", "error", "zpool status tank"),
    ],
)
def test_health(server: Server, health: str, level: str, fix: str) -> None:
    server.pool["health"] = health
    one = server.problem(check_pool)
    assert one.level == level
    assert health in one.what
    assert fix in one.fix


def test_a_suspended_pool_is_not_asked_more(server: Server) -> None:
    server.pool["health"] = "SUSPENDED"
    server.problem(check_pool)
    assert [command.split()[0] for command in server.asked] == ["zpool"]


def test_lost_data(server: Server) -> None:
    server.say("zpool status tank", " state: ONLINE\nerrors: 3 data errors, use '-v' for a list\n")
    one = server.problem(check_pool)
    assert (one.level, one.fix) == ("error", "zpool status -v tank names what is damaged")
    assert "3 data errors" in one.what


def test_read_only(server: Server) -> None:
    server.pool["readonly"] = "on"
    assert server.problem(check_pool).what == "is imported read-only"


@pytest.mark.parametrize(("free", "level"), [(9, "error"), (19, "warning")])
def test_room(server: Server, free: int, level: str) -> None:
    server.say("zfs get -Hp -o value used,available", f"{(100 - free) * 10**10}\n{free * 10**10}\n")
    one = server.problem(check_pool)
    assert (one.level, one.where) == (level, "[storage] pool_free = 10")
    assert f"{free} %" in one.what
    assert one.fix.startswith("zfsiscsi storage show")


def test_quota(server: Server) -> None:
    """What the store may take counts, not what the pool has."""
    server.say("zfs get -Hp -o value used,available", "50000\n50000\n1000\n5000\n")
    assert "5 %" in server.problem(check_pool).what


def test_what_is_reserved_for_disks_is_free(server: Server) -> None:
    server.say("zfs get -Hp -o value used,available", "85000\n15000\n1000\n15000\n")
    server.say("zfs get -Hp -o value used,reservation", "5000\n25000\n")
    assert {finding.level for finding in server.find(check_pool)} == {"ok"}
    server.say("zfs get -Hp -o value used,reservation", "5000\nnone\n")
    assert server.problem(check_pool).level == "warning"


def test_no_store_yet(server: Server) -> None:
    server.say("zfs get -Hp -o value used,available", "50000\n50000\n", code=1)
    assert {finding.level for finding in server.find(check_pool)} == {"ok"}
    server.says["zfs get -Hp -o value used,available"] = None
    assert {finding.level for finding in server.find(check_pool)} == {"ok"}


def test_fragmented(server: Server) -> None:
    server.pool["fragmentation"] = "71"
    assert "71 % of the free space" in server.problem(check_pool).what


def test_second_server(server: Server) -> None:
    (server.root / "etc/hostid").unlink()
    one = server.problem(check_pool)
    assert (one.level, one.fix) == ("error", "zgenhostid")
    server.pool["multihost"] = "off"
    one = server.problem(check_pool)
    assert (one.level, one.fix) == ("info", "zgenhostid; zpool set multihost=on tank")
    server.write("etc/hostid", "1234")
    assert server.problem(check_pool).fix == "zpool set multihost=on tank"


def test_not_imported_at_start(server: Server) -> None:
    server.pool["cachefile"] = "none"
    one = server.problem(check_pool)
    assert one.fix == "zpool set cachefile=/etc/zfs/zpool.cache tank"

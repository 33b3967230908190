from __future__ import annotations

from pathlib import Path

from cuckoo_zfsiscsi.doctor.datasets import check_datasets
from tests.doctor.server import Server

ROLE = "zfs get -Hp -o value zfsiscsi:role tank/zfsiscsi"
VOLMODES = "zfs get -Hpr -o name,value -t filesystem,volume volmode tank/zfsiscsi"


def test_not_initialised(server: Server) -> None:
    server.say(ROLE, code=1, err="cannot open 'tank/zfsiscsi': dataset does not exist")
    one = server.problem(check_datasets)
    assert (one.level, one.fix) == ("error", "zfsiscsi storage init tank")


def test_not_ours(server: Server) -> None:
    server.say(ROLE, "-\n")
    one = server.problem(check_datasets)
    assert (one.level, one.what) == (
        "error", "is there, but `zfsiscsi storage init` has not made it"
    )  # fmt: skip


def test_volmode_of_all(server: Server) -> None:
    server.say(VOLMODES, "tank/zfsiscsi\tdefault\ntank/zfsiscsi/disks\tdefault\n")
    one = server.problem(check_datasets)
    assert (one.level, one.fix) == ("error", "zfs set volmode=dev tank/zfsiscsi")


def test_volmode_of_one(server: Server) -> None:
    server.say(VOLMODES, "tank/zfsiscsi\tdev\ntank/zfsiscsi/disks/pc1/g1\tfull\n")
    one = server.problem(check_datasets)
    assert "g1 has full" in one.what
    assert one.fix.startswith("zfs inherit volmode tank/zfsiscsi/disks/pc1/g1")


def test_sync(server: Server) -> None:
    server.say("zfs get -Hp -o value sync", "standard\n")
    one = server.problem(check_datasets)
    assert (one.level, one.fix) == ("warning", "zfs set sync=disabled tank/zfsiscsi/disks")


def test_no_such_dataset(tmp_path: Path) -> None:
    server = Server(tmp_path, ("pool = tank", "pool = tank/lab"))
    server.say("zfs list -Ho name tank/lab", code=1, err="cannot open 'tank/lab': dataset does "
               "not exist")  # fmt: skip
    one = server.problem(check_datasets)
    assert (one.level, one.fix) == ("error", "zfs create tank/lab")


def test_no_pool(server: Server) -> None:
    server.say("zfs list -Ho name tank", code=1)
    assert server.find(check_datasets) == []  # the check of the pool says so

"""The doctor beside real ZFS and LIO: what their commands and files say is what it reads."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cuckoo_zfsiscsi.deadline import Deadline
from tests.zfs.rig import command, invoke, make_image, opened, write_conf
from tests.zfs.zfs import get, run, zfs, zpool

PORT = 3275
Found = dict[str, dict[str, str]]


@pytest.fixture
def conf(parent: str, tmp_path: Path) -> Path:
    return write_conf(tmp_path, pool=parent, hosts=["pc1"], port=PORT)


@pytest.fixture
def doctor(conf: Path) -> Callable[[], Found]:
    """Run it; return what it finds by place, the first of each."""

    def look() -> Found:
        code, out, err = invoke(conf, "doctor", "--json")
        answer: dict[str, Any] = json.loads(out)
        assert err == ""
        assert code == (0 if answer["ok"] else 1)
        found: Found = {}
        for one in answer["findings"]:
            found.setdefault(one["where"], one)
        return found

    return look


def test_before_and_after_init(doctor: Callable[[], Found], conf: Path, parent: str) -> None:
    dataset = f"dataset {parent}/zfsiscsi"
    before = doctor()
    assert before[dataset]["level"] == "error"
    command(conf, *before[dataset]["fix"].split()[1:])  # what it says is what helps
    after = doctor()
    assert after[dataset]["level"] == "ok"
    pool = parent.partition("/")[0]
    for where in ("kernel modules", "/sys/kernel/config", "zfs", f"pool {pool}",
                  f"ashift of pool {pool}", "[storage] pool_free = 10",
                  "ZFS' threads", f"volmode below {parent}/zfsiscsi",
                  f"sync of {parent}/zfsiscsi/disks",
                  "[storage] portal = 127.0.0.1", "ARC"):  # fmt: skip
        assert after[where]["level"] == "ok", after[where]
    assert after[f"ashift of pool {pool}"]["what"] == "is 12"
    errors = {where for where, one in after.items() if one["level"] == "error"}
    assert errors <= {"[netboot] boot_port: tcp 10.99.0.1:8471"}


def test_beside_a_store_and_a_target_in_use(
    doctor: Callable[[], Found], conf: Path, parent: str, tmp_path: Path, deadline: Deadline
) -> None:
    command(conf, "storage", "init", parent)
    command(conf, "image", "import", "golden", str(make_image(tmp_path, 4)))
    with opened(conf) as rig:
        rig.boot("pc1")
        found = doctor()
        port = rig.config.portal_port_of(rig.config.host("pc1"))
        assert f"tcp 127.0.0.1:{port}" in found["ports"]["what"]  # the kernel has it, for us
        assert found[f"volmode below {parent}/zfsiscsi"]["level"] == "ok"
        rig.target.fence("pc1", deadline=deadline)
        rig.target.release("pc1", [], deadline=deadline)


def test_what_was_changed(doctor: Callable[[], Found], conf: Path, parent: str) -> None:
    command(conf, "storage", "init", parent)
    dataset = f"{parent}/zfsiscsi"
    zfs("set", "volmode=full", dataset)
    zfs("set", "sync=always", f"{dataset}/disks")
    found = doctor()
    for where in (f"volmode below {dataset}", f"sync of {dataset}/disks"):
        assert found[where]["level"] in ("warning", "error")
        run(*found[where]["fix"].split())
    found = doctor()
    assert found[f"volmode below {dataset}"]["level"] == "ok"
    assert found[f"sync of {dataset}/disks"]["level"] == "ok"


def test_threads_as_they_are_without_our_option(
    doctor: Callable[[], Found], request: pytest.FixtureRequest
) -> None:
    """Proof that the option of deploy/modprobe.conf does it, and that the doctor sees it."""
    option = Path("/sys/module/spl/parameters/spl_taskq_thread_priority")
    assert option.read_text() == "0\n"
    option.write_text("1")
    try:
        request.getfixturevalue("small_pool")  # threads get their priority with their pool
    finally:
        option.write_text("0")
    one = doctor()["ZFS' threads"]
    assert one["level"] == "warning"
    assert "go before LIO's (z_wr_iss at nice -" in one["what"]


def test_foreign_dataset(doctor: Callable[[], Found], parent: str) -> None:
    zfs("create", f"{parent}/zfsiscsi")
    assert "has not made it" in doctor()[f"dataset {parent}/zfsiscsi"]["what"]


def test_no_such_pool(tmp_path: Path, doctor: Callable[[], Found], conf: Path) -> None:
    write_conf(tmp_path, pool="none-such", hosts=["pc1"], port=PORT)
    one = doctor()["[storage] pool = none-such"]
    assert one["level"] == "error"
    assert "no such pool" in one["what"]


def test_degraded(small_pool: str, tmp_path: Path, doctor: Callable[[], Found], conf: Path) -> None:
    write_conf(tmp_path, pool=small_pool, hosts=["pc1"], port=PORT)
    other = tmp_path / "other"
    with other.open("wb") as file:
        file.truncate(192 << 20)
    words = zpool("list", "-HPLv", "-o", "name", small_pool).split()
    (disk,) = (word for word in words if word.startswith("/"))
    zpool("attach", small_pool, disk, str(other))
    zpool("wait", "-t", "resilver", small_pool)
    assert doctor()[f"pool {small_pool}"]["level"] == "ok"
    zpool("offline", small_pool, str(other))
    one = doctor()[f"pool {small_pool}"]
    assert one["level"] == "warning"
    assert one["what"].startswith("is DEGRADED")
    zpool("detach", small_pool, str(other))
    assert doctor()[f"pool {small_pool}"]["level"] == "ok"


def test_full(small_pool: str, tmp_path: Path, doctor: Callable[[], Found], conf: Path) -> None:
    write_conf(tmp_path, pool=small_pool, hosts=["pc1"], port=PORT)
    command(conf, "storage", "init", small_pool)
    free = int(get(small_pool, "available"))
    for taken, level in ((0.85, "warning"), (0.95, "error")):
        zfs("set", f"reservation={int(free * taken)}", f"{small_pool}/zfsiscsi/images")
        one = doctor()["[storage] pool_free = 10"]
        assert one["level"] == level, one

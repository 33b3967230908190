from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.doctor.unit import check_unit
from tests.config.sample import edit, read
from tests.doctor.server import Server


@pytest.mark.parametrize(
    ("changed", "level", "fix"),
    [
        ({"LoadState": "not-found"}, "warning", "deploy/install"),
        ({"UnitFileState": "disabled"}, "warning", "systemctl enable zfsiscsi"),
        ({"ActiveState": "inactive"}, "info", "systemctl start zfsiscsi"),
        ({"ActiveState": "failed", "Result": "watchdog"}, "error", "journalctl -u zfsiscsi -n 50"),
        ({"NRestarts": "3"}, "warning", "journalctl -u zfsiscsi -n 50"),
    ],
    ids=["missing", "disabled", "down", "failed", "restarted"],
)
def test_state(server: Server, changed: dict[str, str], level: str, fix: str) -> None:
    server.unit |= changed
    one = server.problem(check_unit)
    assert (one.level, one.fix) == (level, fix)


def test_why_it_failed(server: Server) -> None:
    server.unit |= {"ActiveState": "failed", "Result": "watchdog"}
    assert server.problem(check_unit).what == "is failed, its last end was: watchdog"


def test_store_elsewhere(server: Server, tmp_path: Path) -> None:
    server.config = read(tmp_path, edit(("[storage]\n", "[storage]\npath = /srv/images\n")))
    one = server.problem(check_unit)
    assert (one.level, one.where) == ("error", "[storage] path = /srv/images")
    assert one.fix.endswith("ReadWritePaths=/srv/images")
    server.unit["ReadWritePaths"] += " /srv"
    assert {finding.level for finding in server.find(check_unit)} == {"ok"}
    server.unit |= {"ReadWritePaths": "", "ProtectSystem": "full"}
    assert {finding.level for finding in server.find(check_unit)} == {"ok"}


def test_nobody_watches_the_disks(server: Server) -> None:
    server.say("systemctl is-active zfs-zed.service", "inactive\n", code=3)
    one = server.problem(check_unit)
    assert (one.level, one.where) == ("warning", "zfs-zed.service")


def test_no_systemd(server: Server) -> None:
    shutil.rmtree(server.root / "run/systemd")
    assert server.problem(check_unit).level == "info"

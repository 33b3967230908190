from __future__ import annotations

from pathlib import Path

import pytest

from cuckoo_zfsiscsi.doctor.others import check_others
from tests.doctor.server import Server


def test_tgt(tmp_path: Path) -> None:
    server = Server(tmp_path, ("[pc1]\n", "[pc1]\nportal_port = 3260\n"))
    server.say("systemctl is-active tgt.service", "active\n")
    one = server.problem(check_others)
    assert (one.level, one.fix) == ("warning", "systemctl disable --now tgt")
    assert "3260" in one.what


def test_tgt_for_nobody(server: Server) -> None:
    server.say("systemctl is-active tgt.service", "active\n")
    assert server.problem(check_others).what == "the distribution's tgtd runs, for nobody"


@pytest.mark.parametrize(
    ("enabled", "active", "found"),
    [
        ("enabled", "inactive", 1),
        ("disabled", "active", 1),
        ("masked", "active", 0),
        ("disabled", "inactive", 0),
        ("", "", 0),
    ],
)
def test_restorer(server: Server, enabled: str, active: str, found: int) -> None:
    unit = "rtslib-fb-targetctl.service"
    server.say(f"systemctl is-enabled {unit}", f"{enabled}\n")
    server.say(f"systemctl is-active {unit}", f"{active}\n")
    warnings = [finding for finding in server.find(check_others) if finding.level == "warning"]
    assert [finding.fix for finding in warnings] == [f"systemctl mask {unit}"] * found


def test_multipath(server: Server) -> None:
    server.write("dev/zd0", "")
    server.write("dev/zdump", "")
    server.say("multipath -c /dev/zd0", code=0)
    assert {finding.level for finding in server.find(check_others)} == {"ok"}  # it does not run
    server.say("systemctl is-active multipathd.service", "active\n")
    one = server.problem(check_others)
    assert (one.level, one.what) == ("error", "wants to have /dev/zd0")
    assert 'devnode "^zd[0-9]"' in one.fix
    server.say("multipath -c /dev/zd0", code=1)
    assert {finding.level for finding in server.find(check_others)} == {"ok"}


def test_logged_in_to_itself(server: Server) -> None:
    session = "sys/class/iscsi_session/session{}/targetname"
    server.write(session.format(1), "iqn.2003-01.com.nas:backup\n")
    assert {finding.level for finding in server.find(check_others)} == {"ok"}
    server.write(session.format(2), "iqn.2026-01.org.example:lab:pc1\n")
    one = server.problem(check_others)
    assert (one.level, one.where) == ("error", "iqn.2026-01.org.example:lab:pc1")

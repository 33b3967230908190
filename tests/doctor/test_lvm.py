from __future__ import annotations

import pytest

from cuckoo_zfsiscsi.doctor.lvm import check_lvm, is_accepted, parse_filter
from tests.doctor.server import Server

ALL = 'use_devicesfile=0\nfilter=["a|.*|"]\nglobal_filter={}\n'


def test_scans_everything(server: Server) -> None:
    server.say("lvmconfig", ALL.format('["a|.*|"]'))
    one = server.problem(check_lvm)
    assert one.level == "warning"
    assert 'global_filter = [ "r|^/dev/zd.*|", "r|^/dev/zvol/.*|" ]' in one.fix


def test_the_link_is_enough_for_lvm(server: Server) -> None:
    """A filter with the node alone, and a rule that takes the rest: LVM goes by the link."""
    server.say("lvmconfig", ALL.format('["r|^/dev/zd.*|","a|.*|"]'))
    assert server.problem(check_lvm).level == "warning"


@pytest.mark.parametrize(
    "text",
    [
        '["r|^/dev/zd.*|","r|^/dev/zvol/.*|"]',
        '["r|/dev/zd|", "r|/dev/zvol/|", "a|.*|"]',
        '[ "a|^/dev/sda|", "r|.*|" ]',
        '["r/\\\\/dev\\\\/zd/","r(zvol)"]',
    ],
)
def test_filter_that_rejects(server: Server, text: str) -> None:
    server.say("lvmconfig", ALL.format(text))
    assert [finding.level for finding in server.find(check_lvm)] == ["ok"]


def test_devices_file(server: Server) -> None:
    server.say("lvmconfig", ALL.format('["a|.*|"]').replace("file=0", "file=1"))
    assert server.problem(check_lvm).level == "warning"  # there is no such file yet
    server.write("etc/lvm/devices/system.devices", "")
    assert [finding.level for finding in server.find(check_lvm)] == ["ok"]


def test_not_installed(server: Server) -> None:
    server.says["lvmconfig"] = None
    (one,) = server.find(check_lvm)
    assert "not installed" in one.what


def test_lvmconfig_fails(server: Server) -> None:
    server.say("lvmconfig", code=5, err="Parse error at line 3")
    assert "Parse error at line 3" in server.problem(check_lvm).what


def test_first_match_of_each_name_decides() -> None:
    patterns = parse_filter('["a|^/dev/zd1$|", "r|^/dev/zd|"]')
    assert patterns == [(True, "^/dev/zd1$"), (False, "^/dev/zd")]
    assert is_accepted(["/dev/zd1"], patterns)
    assert not is_accepted(["/dev/zd2"], patterns)
    assert is_accepted(["/dev/sda"], patterns)
    assert not is_accepted(["/dev/zd2", "/dev/link"], patterns)
    assert parse_filter("[]") == []

from __future__ import annotations

from pathlib import Path

import pytest

from cuckoo_zfsiscsi.config.ways import parse_ways, write_way, write_ways
from cuckoo_zfsiscsi.config.wrong import WrongValueError
from tests.config.sample import edit, read


def test_in_turn_and_together() -> None:
    text = "redfish://admin@bmc1, ipmi://a@pdu1 and ipmi://a@pdu2,wol"
    ways = parse_ways(text)
    assert [[url.host for url in way] for way in ways] == [["bmc1"], ["pdu1", "pdu2"], [""]]
    assert write_ways(ways) == "redfish://admin@bmc1, ipmi://a@pdu1 and ipmi://a@pdu2, wol"
    assert parse_ways(write_ways(ways)) == ways
    assert write_way(ways[1]) == "ipmi://a@pdu1 and ipmi://a@pdu2"


@pytest.mark.parametrize("text", ["", ",", "wol,", "wol and", "wol and ", "wol, wol"])
def test_not_a_list(text: str) -> None:
    with pytest.raises(WrongValueError):
        parse_ways(text)


def test_power_on_and_off_go_before_power(tmp_path: Path) -> None:
    change = ("power = ipmi://admin@10.98.0.11", "power_on = wol\npower_off = ipmi://admin@bmc")
    host = read(tmp_path, edit(change)).host("pc1")
    assert (write_ways(host.ways_on), write_ways(host.ways_off)) == ("wol", "ipmi://admin@bmc")
    assert [str(url) for url in host.power_urls] == ["wol", "ipmi://admin@bmc"]
    host = read(tmp_path, edit()).host("pc1")
    assert host.ways_on == host.ways_off == host.power


def test_a_device_with_a_password_of_its_own(tmp_path: Path) -> None:
    secret = tmp_path / "own"
    secret.touch(0o600)
    secret.write_text("pdu-secret\n")
    url = f"ipmi://admin@10.98.0.11?password_file={secret}, ipmi://b@h2"
    host = read(tmp_path, edit(("ipmi://admin@10.98.0.11", url))).host("pc1")
    environ = {host.password_variable: "other"}
    first, second = host.power_urls
    for asked, expected in ((first, "pdu-secret"), (second, "other")):
        found = host.read_power_password(environ, asked)
        assert found is not None
        assert found.get_secret_value() == expected

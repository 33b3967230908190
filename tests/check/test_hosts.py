from __future__ import annotations

from pathlib import Path

from cuckoo_zfsiscsi.check.hosts import check_power
from tests.config.sample import GOOD, edit, read

SCRIPT = "#!/bin/sh\necho off\n"


def test_every_device_of_every_host_is_asked(tmp_path: Path) -> None:
    relay = tmp_path / "relay"
    relay.write_text(SCRIPT)
    relay.chmod(0o755)
    url = f"command://{relay}?args="
    ways = f"power_on = wol\npower_off = {url}1, {url}2 and {url}3, {url}4&tell=off"
    config = read(
        tmp_path,
        edit(
            ("power = ipmi://admin@10.98.0.11", ways),
            ("power = ipmi://admin@10.98.0.12", f"power = {url}5"),
            ("power_password_file = /etc/zfsiscsi/pc1.password\n", ""),
            text=GOOD,
        ),
    )
    found = {finding.where: finding for finding in check_power(config)}
    assert {finding.level for finding in found.values()} == {"ok"}
    assert "only used" in found["[pc1] power_on = wol"].what
    for number in "123":
        assert found[f"[pc1] power_off = {url}{number}"].what == "answers, pc1 is off"
    assert found[f"[pc1] power_off = {url}4&tell=off"].what == "answers, pc1 is off"
    assert found[f"[pc2] power = {url}5"].what == "answers, pc2 is off"


def test_a_host_that_can_not_be_switched(tmp_path: Path) -> None:
    ways = "power_on = wol\npower_off = agent"
    changes = [(f"power = ipmi://admin@10.98.0.1{number}", ways) for number in "12"]
    no_file = ("power_password_file = /etc/zfsiscsi/pc1.password\n", "")
    found = list(check_power(read(tmp_path, edit(*changes, no_file))))
    assert {finding.level for finding in found} == {"error"}
    assert all("switches the host off" in finding.what and finding.fix for finding in found)

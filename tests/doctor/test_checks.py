from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from cuckoo_zfsiscsi.check import Finding
from cuckoo_zfsiscsi.config import Config
from cuckoo_zfsiscsi.doctor.checks import CHECKS, Check, about, chosen, look
from cuckoo_zfsiscsi.doctor.system import StuckError, System
from tests.config.sample import GOOD, read
from tests.doctor.server import Server


def test_a_server_that_is_well(server: Server) -> None:
    assert {finding.level for finding in server.all()} == {"ok"}
    assert list(about(server.config, server.system)) == []
    assert chosen(server.config) == list(CHECKS)


def test_nothing_is_changed(server: Server) -> None:
    """Only commands that ask."""
    server.all()
    words = {" ".join(command.split()[:2]) for command in server.asked}
    assert words == {
        "/opt/zfsiscsi/bin/python -c", "ip -json", "lvmconfig --typeconfig",
        "nft --json", "ps -e", "unshare --net",
        "ss -Hlnptu", "systemctl is-active", "systemctl is-enabled", "systemctl show",
        "zdb -C", "zfs get", "zfs list", "zfs version", "zpool get", "zpool list", "zpool status",
    }  # fmt: skip


def test_file_store(server: Server, tmp_path: Path) -> None:
    server.config = read(tmp_path, GOOD)
    names = {check.name for check in chosen(server.config)}
    assert names == {"memory", "time", "network card", "ports", "firewall", "other services",
                     "space", "systemd unit"}  # fmt: skip
    (skipped,) = about(server.config, server.system)
    assert skipped.level == "info"
    assert "pool" in skipped.what
    assert {finding.level for finding in server.all()} == {"ok"}
    assert not any(command.startswith(("zpool", "zfs", "lvm")) for command in server.asked)


def test_not_root(server: Server) -> None:
    server.is_root = False
    (warning,) = about(server.config, server.system)
    assert (warning.level, warning.fix) == ("warning", "sudo zfsiscsi doctor")


def test_what_is_stuck_ends_one_check_alone(server: Server) -> None:
    def stuck(_config: Config, _system: System) -> Iterator[Finding]:
        yield Finding("ok", "pool tank", "is ONLINE")
        raise StuckError("`zpool status tank` does not end")

    found = list(look(Check("pool", stuck), server.config, server.system))
    assert [finding.level for finding in found] == ["ok", "error"]
    assert found[1].what == "`zpool status tank` does not end"
    assert found[1].fix

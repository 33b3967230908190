"""Our units in deploy/: systemd likes them, and what their programs need is in them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.disk.store.zfs_lease import LOCKS
from cuckoo_zfsiscsi.netboot import flows
from tests.config.sample import EXAMPLE
from tests.waiting import HANG

DEPLOY = Path(__file__).parents[2] / "deploy"
UNIT = DEPLOY / "zfsiscsi.service"
FIREWALL = DEPLOY / "zfsiscsi-firewall.service"
VERIFY = ("systemd-analyze", "verify", "--man=no", "--recursive-errors=no")


@pytest.fixture(scope="module")
def unit() -> dict[str, str]:
    return settings(UNIT)


def settings(unit: Path) -> dict[str, str]:
    """Return its settings; those that are there several times joined, as systemd does."""
    found: dict[str, list[str]] = defaultdict(list)
    for key, value in re.findall(r"^(\w+)=(.*)$", unit.read_text(), re.MULTILINE):
        found[key].append(value)
    return {key: " ".join(values) for key, values in found.items()}


def run(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, capture_output=True, text=True, timeout=HANG, check=False)


@pytest.mark.parametrize("path", [UNIT, FIREWALL], ids=lambda path: path.stem)
def test_systemd_likes_it(tmp_path: Path, path: Path) -> None:
    """All but the program, which is not installed here, and the manual beside it."""
    text = path.read_text().replace("/opt/zfsiscsi/bin/zfsiscsi", sys.executable)
    (tmp_path / path.name).write_text(text)
    done = run(*VERIFY, str(tmp_path / path.name))
    assert (done.returncode, done.stderr) == (0, "")


def test_systemd_finds_mistakes(tmp_path: Path) -> None:
    """The test above can fail."""
    text = UNIT.read_text().replace("WatchdogSec=120", "WatchdogSec=soon")
    (tmp_path / UNIT.name).write_text(text.replace("/opt/zfsiscsi/bin/zfsiscsi", sys.executable))
    done = run(*VERIFY, str(tmp_path / UNIT.name))
    assert "soon" in done.stderr


@pytest.mark.parametrize("path", [UNIT, FIREWALL], ids=lambda path: path.stem)
def test_exposure(path: Path) -> None:
    """It is root in a narrow room: less than 4 of 10, where an ordinary service has 9.6."""
    argv = ["systemd-analyze", "security", "--offline=true", "--threshold=40", "--no-pager",
            "--json=short"]  # fmt: skip
    done = run(*argv, str(path))
    assert done.returncode == 0, done.stdout
    assert json.loads(done.stdout)


def test_order(unit: dict[str, str]) -> None:
    wanted = {"network-online.target", "zfs-import.target", "zfs-volumes.target",
              "sys-kernel-config.mount", "sys-kernel-tracing.mount"}  # fmt: skip
    assert wanted <= set(unit["Wants"].split())
    assert wanted <= set(unit["After"].split())
    assert "rtslib-fb-targetctl.service" in unit["After"]


def test_connections_of_a_run_can_be_deleted(unit: dict[str, str]) -> None:
    assert "AF_NETLINK" in unit["RestrictAddressFamilies"].split()
    names = unit["CapabilityBoundingSet"].lower().replace("cap_", "+").split()
    room = ("setpriv", "--no-new-privs", f"--bounding-set=-all,{','.join(names)}")
    done = run("unshare", "--net", *room, "conntrack", "-D", "-f", "ipv4", "-s", "10.99.0.11")
    assert flows.NONE in done.stderr


SERVE_DISK = """
import sys
from pathlib import Path
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.target.tgt_process import Tgtd
from tests.iscsi import free_port
from tests.waiting import HANG
at = Path(sys.argv[1])
one = Tgtd("pc1", at / "disk.raw", ("127.0.0.1", free_port()), at / "run")
one.start(Deadline(HANG))
one.stop(Deadline(HANG))
print("served")
"""


def test_tgtd_gets_its_sandbox(unit: dict[str, str], tmp_path: Path) -> None:
    """With the unit's capabilities alone, and what it makes and forbids of namespaces."""
    assert unit["RestrictNamespaces"].split() == ["mnt", "pid", "ipc", "uts"]
    assert {"@system-service", "@mount"} <= set(unit["SystemCallFilter"].split())
    names = unit["CapabilityBoundingSet"].lower().replace("cap_", "+").split()
    room = ("setpriv", "--no-new-privs", f"--bounding-set=-all,{','.join(names)}")
    (tmp_path / "disk.raw").write_bytes(bytes(1 << 20))
    done = run(*room, sys.executable, "-c", SERVE_DISK, str(tmp_path))
    assert (done.stdout, done.returncode) == ("served\n", 0), done.stderr


def test_life(unit: dict[str, str]) -> None:
    assert unit["Type"] == "notify"
    assert unit["Restart"] == "on-failure"
    assert unit["KillMode"] == "mixed"  # the ipmitool that cuts a host's power lives on
    assert int(unit["WatchdogSec"]) > 32  # a mend that starts dnsmasq again, and its pause
    assert int(unit["TimeoutStopSec"]) >= 120  # stop_timeout's default and END_MARGIN


def test_lio_and_zfs_can_be_reached(unit: dict[str, str]) -> None:
    assert unit["ProtectKernelTunables"] == "yes"  # makes /sys read-only, so that:
    assert {"-/sys/kernel/config", "-/sys/kernel/tracing"} <= set(unit["ReadWritePaths"].split())
    assert LOCKS.parent in map(Path, unit["ReadWritePaths"].split())
    assert "PrivateDevices" not in unit
    assert unit["DeviceAllow"] == "/dev/zfs rw block-zvol rw"
    assert "CAP_SYS_ADMIN" in unit["CapabilityBoundingSet"]


def test_secrets(unit: dict[str, str]) -> None:
    assert unit["EnvironmentFile"] == "-/etc/zfsiscsi/environment"
    assert unit["LimitCORE"] == "0"
    assert unit["UMask"] == "0077"
    assert "Environment" not in unit


def test_the_firewall_comes_first_and_again() -> None:
    firewall = settings(FIREWALL)
    assert {"zfsiscsi.service", "cape-rooter.service"} <= set(firewall["Before"].split())
    for key in ("After", "PartOf", "ReloadPropagatedFrom"):
        assert "nftables.service" in firewall[key].split()
    assert firewall["RemainAfterExit"] == "yes"
    assert firewall["ExecStart"] == firewall["ExecReload"]


@pytest.mark.parametrize("key", ["ExecStart", "ExecStop"])
def test_the_firewall_has_the_rights_that_it_needs(key: str, tmp_path: Path) -> None:
    """Its command, with the unit's capabilities alone, in a network of its own."""
    unit = settings(FIREWALL)
    program, *words = unit[key].split()
    words[words.index("--conf") + 1] = str(EXAMPLE)
    assert program == "/opt/zfsiscsi/bin/zfsiscsi"
    kept = ",".join(f"+{name.lower().removeprefix('cap_')}"
                    for name in unit["CapabilityBoundingSet"].split())  # fmt: skip
    argv = ["unshare", "--net", "setpriv", "--no-new-privs", f"--bounding-set=-all,{kept}",
            sys.executable, "-m", "cuckoo_zfsiscsi", *words]  # fmt: skip
    done = run(*argv)
    assert done.returncode == 0, done.stderr
    assert "the firewall" in done.stdout

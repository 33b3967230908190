"""What the programs that the service starts can tell of it: some of them talk to guests."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.lab.network import mac
from tests.faults.conf import PASSWORD
from tests.faults.conftest import lab
from tests.faults.patience import SERVICE
from tests.faults.small_lab import SmallLab

__all__ = ["lab"]  # a fixture

Record = Callable[[str, object], None]

SECRETS = {
    "ZFSISCSI_POWER_PASSWORD_PC1": PASSWORD,
    "ZFSISCSI_POWER_PASSWORD_PC2": "the-password-of-a-sibling",
    "AWS_SECRET_ACCESS_KEY": "another-secret",
    "LD_PRELOAD_OF_OURS": "a-third-one",
}
SHORT = ("ipmitool", "ip", "qemu-img", "conntrack", "dnsmasq")
"""What runs as long as its answer takes, and what runs for ever outside of a sandbox."""
WRAPPER = """\
#!/bin/sh
tr '\\0' '\\n' </proc/self/environ >"{seen}/{name}.$$"
exec {program} "$@"
"""


@pytest.fixture(autouse=True)
def _secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have every program note the environment that it gets, before it begins."""
    folder, programs = tmp_path / "seen", tmp_path / "programs"
    folder.mkdir()
    programs.mkdir()
    for name in SHORT:
        found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
        assert found, f"{name} is not installed"
        wrapper = programs / name
        wrapper.write_text(WRAPPER.format(seen=folder, name=name, program=found))
        wrapper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}:/usr/sbin:/sbin")
    return folder


def environments(lab: SmallLab, name: str) -> list[str]:
    """Return the environment of each process of this name in the lab."""
    found = []
    for pid in lab.network.pids():
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/comm").read_text().strip() == name:
                found.append(Path(f"/proc/{pid}/environ").read_text())
    return found


@pytest.mark.parametrize("dhcp", ["dnsmasq", "isc", "kea"])
def test_what_servers_of_guests_know(lab: SmallLab, dhcp: str) -> None:
    """A guest that takes over dnsmasq, dhcpd, Kea or tgtd reads its environment.

    Before: passwords of power devices were in it.
    Now: nothing of the service's own is, but PATH.
    """
    lab.conf.write_text(lab.conf.read_text().replace("[netboot]", f"[netboot]\ndhcp = {dhcp}"))
    lab.start()
    servers = {"isc": ["dhcpd"], "kea": ["kea-dhcp4"]}.get(dhcp, ["tgtd"])
    if "tgtd" in servers:  # one serves each host that is armed
        lab.client.start("pc1", SERVICE)
    for name in ("dnsmasq", *servers):
        assert environments(lab, name), f"there is no {name}"
        for environment in environments(lab, name):
            variables = {line.split("=", 1)[0] for line in environment.split("\0") if line}
            own = {"TGT_IPC_SOCKET", "KEA_PIDFILE_DIR", "KEA_LOCKFILE_DIR", "PWD"}
            assert variables - own <= {"PATH", "LC_ALL", "ZFSISCSI_DAEMON"}, name
            assert not [value for value in SECRETS.values() if value in environment], name


def test_what_short_programs_know(lab: SmallLab, seen: Path, record_property: Record) -> None:
    """Each program that runs in a whole run of a host: ipmitool, qemu-img, ip, conntrack.

    Before: most had the service's environment.
    Now: none has, and all of them work.
    """
    lab.run_cli("image", "import", "other", str(lab.at / "golden.raw"))
    lab.start()
    lab.client.start("pc1", SERVICE)
    lab.fetch_as_guest(f"http://10.99.0.1:8471/boot.ipxe?mac={mac(1)}")
    lab.client.stop("pc1", SERVICE)
    lab.wait(lambda: lab.state() == "clean", "the reset")
    assert lab.kill(signal.SIGTERM) == 0
    programs = {path.name.partition(".")[0] for path in seen.iterdir()}
    record_property("programs", ", ".join(sorted(programs)))
    for path in seen.iterdir():
        text = path.read_text()
        if path.name.startswith("ipmitool"):
            text = text.replace(f"IPMITOOL_PASSWORD={PASSWORD}\n", "")  # what it is started with
        found = [name for name, value in SECRETS.items() if name in text or value in text]
        assert not found, f"{path.name} got {found}"
    assert programs == set(SHORT)

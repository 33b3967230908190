from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from ipaddress import IPv4Interface
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.errors import DeadlineExceededError, LabError
from cuckoo_zfsiscsi.lab.appliance import image
from cuckoo_zfsiscsi.lab.appliance.appliance import CHECKOUT, POOL_DISK, Appliance
from cuckoo_zfsiscsi.lab.network import Network
from tests.waiting import HANG

ADDRESS = IPv4Interface("10.99.0.2/24")
STEP = 1800.0
"""Seconds for one command in an emulated machine."""
ZVOL = "/dev/zvol/tank/v"
EXPORT = """\
from rtslib_fb import FabricModule, LUN, NetworkPortal, Target, TPG, BlockStorageObject
disk = BlockStorageObject("v", dev="/dev/zvol/tank/v")
portals = TPG(Target(FabricModule("iscsi"), "iqn.2026-01.org.example:v"), 1)
NetworkPortal(portals, "10.99.0.2", 3260)
LUN(portals, 0, disk)
portals.set_attribute("generate_node_acls", "1")
portals.set_attribute("authentication", "0")
portals.enable = True
"""


@pytest.fixture
def nothing(tmp_path: Path) -> image.Image:
    """Return an image that is not there."""
    return image.Image(tmp_path / "no-image")


def test_an_image_that_is_gone(tmp_path: Path, nothing: image.Image) -> None:
    appliance = Appliance(tmp_path / "a", nothing)
    with pytest.raises(LabError, match=r"QEMU ended with status 1: .*no-image"):
        appliance.start()
    assert not appliance.is_on
    appliance.off()
    assert (tmp_path / "a/pool.raw").stat().st_size == POOL_DISK
    assert (tmp_path / "a/pool.raw").stat().st_blocks == 0


def test_a_boot_that_fails(tmp_path: Path) -> None:
    """A kernel that is none: QEMU does not take it."""
    made = image.Image(tmp_path / "image")
    made.folder.mkdir()
    for path in (made.vmlinuz, made.initrd, made.root):
        path.write_bytes(bytes(1 << 20))
    appliance = Appliance(tmp_path / "a", made, memory=64, cpus=1)
    with pytest.raises(LabError, match="QEMU ended with status 1"):
        appliance.start()
    assert not appliance.is_on


def test_a_command_while_it_is_off(tmp_path: Path, nothing: image.Image) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(LabError, match="the appliance is off"):
        Appliance(tmp_path / "a", nothing).run(["true"], timeout=STEP)


def test_a_network_goes_with_an_address(tmp_path: Path, nothing: image.Image) -> None:
    with pytest.raises(ValueError, match="neither"):
        Appliance(tmp_path, nothing, network=Network("n"))


def test_disks_that_are_there_stay(tmp_path: Path, nothing: image.Image) -> None:
    for size in (1 << 20, 2 << 20):
        with pytest.raises(LabError):
            Appliance(tmp_path, nothing, disks=[size]).start()
    assert (tmp_path / "disk0.raw").stat().st_size == 1 << 20
    argv = json.loads((tmp_path / "argv.json").read_text())
    drives = [word.split(",")[0].rpartition("/")[2] for word in argv if word.startswith("file=")]
    assert drives == ["root.ext4", "pool.raw", "system.raw", "disk0.raw"]
    assert "tap" not in " ".join(argv)


@pytest.fixture
def appliance(tmp_path: Path, network: Network) -> Iterator[Appliance]:
    made = image.build(image.default_cache(), progress=lambda _text: None)
    with Appliance(tmp_path / "a", made, network=network, address=ADDRESS) as up:
        yield up


@pytest.mark.matrix
@pytest.mark.lab
@pytest.mark.timeout(7200)
def test_a_storage_server_that_loses_its_power(appliance: Appliance, network: Network) -> None:
    check_commands(appliance)
    check_hasty(appliance)
    check_python(appliance)
    check_out(appliance)

    sh(
        appliance,
        f"zpool create -O mountpoint=none tank /dev/vdb; zfs create -s -V 64M tank/v; {SETTLE}",
    )
    sh(appliance, f"echo lasts | dd of={ZVOL} bs=4k conv=fsync,sync status=none")
    sh(appliance, "echo lasts >/etc/lasts; sync; echo gone >/run/gone")
    appliance.output(["python3", "-c", EXPORT], timeout=STEP)
    url = f"iscsi://{ADDRESS.ip}/iqn.2026-01.org.example:v/0"
    assert "LIO-ORG" in network.run(["iscsi-inq", url], timeout=HANG)

    check_power_fails(appliance)
    appliance.start()
    appliance.start()  # is on: nothing
    assert appliance.machine.boots == 2
    assert sh(appliance, f"{SETTLE}; head -c 5 {ZVOL}") == "lasts"
    assert sh(appliance, "cat /etc/lasts; ls /run/gone || true") == "lasts\n"
    assert "ONLINE" in sh(appliance, "zpool status -x tank; zpool list -Ho health tank")
    assert "iqn." not in sh(appliance, "ls /sys/kernel/config/target")


SETTLE = "udevadm settle"


def sh(appliance: Appliance, script: str) -> str:
    return appliance.output(["sh", "-ec", script], timeout=STEP)


def check_commands(appliance: Appliance) -> None:
    said: dict[str, bytes] = {"out": b"", "err": b""}

    def keep(stream: str, data: bytes) -> None:
        said[stream] += data

    argv = ["sh", "-c", "pwd; id -u; echo $WORD >&2; exit 9"]
    assert appliance.run(argv, timeout=STEP, on_output=keep, env={"WORD": "w"}) == 9
    assert said == {"out": f"{CHECKOUT}\n0\n".encode(), "err": b"w\n"}
    with pytest.raises(LabError, match="status 3: oh"):
        sh(appliance, "echo oh >&2; exit 3")
    slow = ["sh", "-c", "echo $WORD; exec sleep 600"]
    with pytest.raises(
        DeadlineExceededError, match=r"took longer than 10.0 s: half way; .*console"
    ):
        appliance.run(slow, timeout=10, env={"WORD": "half way"})
    with pytest.raises(LabError, match="No such file"):
        appliance.run(["no-such-program"], timeout=STEP)
    # Ended, and all ports free again
    assert (
        sh(appliance, "for n in $(seq 120); do pidof sleep || exit 0; sleep 1; done; exit 1") == ""
    )
    assert sh(appliance, "ls -d /dev/pts /dev/shm /sys/kernel/config/target") != ""
    assert sh(appliance, "lsmod | grep -c -e ^tcp_diag -e ^tcm_loop -e ^iscsi_target_mod") == "3\n"


def check_hasty(appliance: Appliance) -> None:
    """Come and go faster than the agent looks: its port goes on."""
    for _ in range(20):
        for _ in range(4):
            with pytest.raises(DeadlineExceededError):
                appliance.run(["true"], timeout=0)
        assert sh(appliance, "echo mine") == "mine\n"


def check_python(appliance: Appliance) -> None:
    """Debian's Python and that of .venv find the checkout, what pip and what Debian installed."""
    imports = (
        "import libzfs_core, rtslib_fb, pydantic, coverage, cuckoo_zfsiscsi as c; print(c.__file__)"
    )
    for python in ("python3", str(CHECKOUT / ".venv/bin/python")):
        said = appliance.output([python, "-c", imports], timeout=STEP)
        assert said == f"{CHECKOUT}/cuckoo_zfsiscsi/__init__.py\n"


def check_out(appliance: Appliance) -> None:
    """Find here what is written to /out there; nothing can be written to the checkout."""
    sh(appliance, "echo out >/out/file")
    assert (appliance.out / "file").read_text() == "out\n"
    with pytest.raises(LabError, match="Read-only file system"):
        sh(appliance, "touch pyproject.toml")


def check_power_fails(appliance: Appliance) -> None:
    """Cut the power while a command runs: it says so, and nothing more works."""
    failed: list[str] = []

    def run() -> None:
        try:
            appliance.run(["sh", "-c", "echo up; sleep 600"], timeout=STEP, on_output=up)
        except LabError as error:
            failed.append(error.what)

    running = threading.Event()

    def up(_stream: str, _data: bytes) -> None:
        running.set()

    thread = threading.Thread(target=run)
    thread.start()
    assert running.wait(STEP)
    appliance.power_fail()
    thread.join(HANG)
    assert [what.rpartition(": ")[2] for what in failed] == ["the appliance went off"]
    assert not appliance.is_on
    with pytest.raises(LabError, match=r"the appliance (is|went) off"):  # its last moment
        sh(appliance, "true")

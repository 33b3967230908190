from __future__ import annotations

from pathlib import Path

import pytest

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import LabError
from cuckoo_zfsiscsi.lab import guest_image, qemu, static
from cuckoo_zfsiscsi.lab.command import last_words
from cuckoo_zfsiscsi.lab.conf import BOOT_TIMEOUT
from cuckoo_zfsiscsi.lab.network import Network, host_address
from cuckoo_zfsiscsi.lab.static import StaticServers
from cuckoo_zfsiscsi.lab.watch import Watch


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    image = tmp_path / "image"
    image.write_bytes(b"content" * 1000)
    image.chmod(0o444)
    static.copy_disk(image, tmp_path / "disk")
    return tmp_path / "disk"


def test_it_serves(network: Network, disk: Path, tmp_path: Path) -> None:
    with StaticServers(network, disk, tmp_path / "servers"):
        script = network.run(["curl", "-sS", "http://10.99.0.1:8472/boot.ipxe"])
        assert script.startswith("#!ipxe")
        assert "sanboot --drive 0x80 iscsi:10.99.0.1::3260:1:iqn.2026-01.lab.static:host1" in script
        network.run(["iscsi-inq", "iscsi://10.99.0.1/iqn.2026-01.lab.static:host1/1"])
        assert len(network.pids()) == 3
    assert network.pids() == []


def test_a_disk_is_replaced_and_writable(disk: Path, tmp_path: Path) -> None:
    disk.write_bytes(b"infected")
    static.copy_disk(tmp_path / "image", disk)
    assert disk.read_bytes() == b"content" * 1000
    assert disk.stat().st_mode & 0o777 == 0o600


def test_one_that_fails_leaves_none(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        pytest.raises(LabError, match="tgtadm"),
        StaticServers(network, tmp_path / "no-disk", tmp_path / "servers"),
    ):
        pytest.fail("there is no disk")
    assert network.pids() == []
    monkeypatch.setattr(static, "DNSMASQ", "no-such-option\n")
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(1 << 20))
    with (
        pytest.raises(LabError, match="bad option"),
        StaticServers(network, disk, tmp_path / "servers"),
    ):
        pytest.fail("dnsmasq can't run")
    assert network.pids() == []


@pytest.mark.matrix
@pytest.mark.lab
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("firmware", ["bios", "uefi"])
def test_the_guest_boots(network: Network, tmp_path: Path, firmware: qemu.Firmware) -> None:
    image = guest_image.build(guest_image.default_cache(), progress=print)
    disk = tmp_path / "disk"
    static.copy_disk(image, disk)
    machine = qemu.create(tmp_path / "host", 1, firmware, network)
    with (
        StaticServers(network, disk, tmp_path / "servers"),
        Watch(network, str(host_address(1))) as watch,
    ):
        machine.on()
        try:
            deadline = Deadline(BOOT_TIMEOUT)
            watch.up(deadline)
            while not (answer := watch.agent()).ok:
                seen = f"{answer}; console: {last_words(machine.console)}"
                deadline.sleep(0.2, f"the agent ({seen})")
            console = machine.console.read_text(errors="replace")
            for milestone in ("initramfs", "iBFT", "login", "root", "userland", "services started"):
                assert f" {milestone}" in console
            machine.press()
            watch.down(deadline)
            while machine.pid is not None:
                seen = last_words(machine.console)
                deadline.sleep(0.1, f"the guest's own power-off (console: {seen})")
        finally:
            machine.off()

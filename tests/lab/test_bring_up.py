from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.config import load
from cuckoo_zfsiscsi.config.default_route import DefaultRoute
from cuckoo_zfsiscsi.errors import LabError
from cuckoo_zfsiscsi.lab import bring_up, conf, failure, guest_image, main, qemu, runs
from cuckoo_zfsiscsi.lab import network as net
from cuckoo_zfsiscsi.lab.bring_up import Lab, leftovers, remove
from cuckoo_zfsiscsi.lab.routes import place as places
from cuckoo_zfsiscsi.lab.routes.outside import GATEWAY, namespaces
from cuckoo_zfsiscsi.lab.routes.route import Route
from cuckoo_zfsiscsi.lab.server import Say
from tests.processes import processes


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(bring_up, "FOLDER", tmp_path)
    monkeypatch.setattr(failure, "default_folder", lambda: tmp_path / "failures")
    return tmp_path


def make(
    tmp_path: Path,
    firmware: qemu.Firmware = "bios",
    more: Sequence[conf.Host] = (),
    route: Route | None = None,
    say: Say = lambda _: None,
) -> Lab:
    image = tmp_path / "image.raw"
    image.write_bytes(os.urandom(4 << 20))
    return Lab(firmware=firmware, prewarm=False, image=image, say=say, more=more, route=route)


def test_up_and_down(folder: Path) -> None:
    """All of it but a boot: the service answers, and the plugin knows the host."""
    lab = make(folder, more=[conf.Host(qemu=qemu.PHYSICAL)])
    assert lab.at not in leftovers()
    with lab:
        assert [one.label for one in lab.plugin.machines()] == [conf.LABEL, "pc2"]
        assert lab.client.hosts()[0]["image"] in (None, "golden@1")
        assert len(lab.network.pids()) >= 5
        secret = (lab.at / "bmc.password").read_text().strip()
        assert (lab.at / "bmc.password").stat().st_mode & 0o077 == 0
        assert not [line for line in processes().values() if secret.encode() in line]
        lab.plugin.shutdown()
        lab.keep()  # and nothing of ours goes on in this process
        assert lab.at in leftovers()
    assert not lab.at.exists()
    assert not (net.FOLDER / lab.network.name).exists()
    lab.down()


def test_with_a_route(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies beyond is up, CAPE's server is guarded, and the hosts are told of the way out."""
    said: list[str] = []
    lab = make(folder, "uefi", route="inetsim", say=said.append)
    beyond = namespaces(lab.at.name)
    with lab:
        assert "route inetsim" in said
        assert all((net.FOLDER / one.name).exists() for one in beyond)
        assert "through-netboot" in beyond[0].run(["nft", "list", "table", "inet", "zfsiscsi"])
        config = load(lab.conf)
        way_out = config.default_route(config.host(conf.LABEL))
        assert way_out == DefaultRoute(GATEWAY.ip, (places.DNS,))
        assert config.host(conf.LABEL).network_via == lab.network_via == "agent"
        monkeypatch.setattr(guest_image, "default_cache", lambda: lab.conf)
        assert lab.keep_capture() is None
        assert "capture of the host's port could not be kept: [Errno 20]" in said[-1]
    assert not any((net.FOLDER / one.name).exists() for one in beyond)
    lab.at.mkdir()
    for one in beyond:
        one.up()
    remove(lab.at)
    assert not any((net.FOLDER / one.name).exists() for one in beyond)


def test_without_a_route(folder: Path) -> None:
    lab = make(folder)
    with lab:
        config = load(lab.conf)
        assert config.default_route(config.host(conf.LABEL)) == DefaultRoute(None, ())
        assert lab.keep_capture() is None
        assert lab.network_via == "dhcp"
        assert not any((net.FOLDER / one.name).exists() for one in namespaces(lab.at.name))


def test_half_up(folder: Path) -> None:
    lab = make(folder)
    lab.image = folder / "no-image"
    with pytest.raises(LabError, match="can't read"), lab:
        pytest.fail("it can't be up")
    assert not lab.at.exists()
    assert not (net.FOLDER / lab.network.name).exists()


def test_no_firmware(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qemu, "OVMF", folder / "nowhere")
    with pytest.raises(LabError, match="ovmf"):
        make(folder, "uefi")
    assert leftovers() == []
    assert list(folder.glob(f"{bring_up.PREFIX}*")) == []


def test_whose_lab_is_it(folder: Path) -> None:
    at = folder / f"{bring_up.PREFIX}x"
    at.mkdir()
    assert leftovers() == []  # it may be about to be claimed
    os.utime(at, (1000, 1000))
    assert leftovers() == [at]
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        bring_up._claim(at, process.pid)
        assert leftovers() == []
        process.kill()
    assert leftovers() == [at]
    bring_up._claim(at, os.getpid())
    (at / "owner").write_text(f"{os.getpid()} 1\n")  # the number is in use again
    assert leftovers() == [at]
    remove(at)
    assert leftovers() == []
    remove(at)


def test_a_directory_that_stays(folder: Path) -> None:
    at = folder / f"{bring_up.PREFIX}x"
    at.mkdir()
    (at / "mount").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", at / "mount"], check=True)
    try:
        with pytest.raises(LabError, match="can't be removed"):
            remove(at)
    finally:
        subprocess.run(["umount", at / "mount"], check=True)
    remove(at)


def test_take_down(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["--down"]) == 0
    assert capsys.readouterr().out == "no lab is up\n"
    at = folder / f"{bring_up.PREFIX}x"
    at.mkdir()
    bring_up._claim(at, 0)
    assert main.run(["--down"]) == 0
    assert "is taken down" in capsys.readouterr().out
    assert not at.exists()


def test_not_root(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert main.run([]) == 1
    assert "sudo scripts/lab" in capsys.readouterr().err


def test_an_error_is_a_fail(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_args: object, **_options: object) -> Path:
        raise LabError("no mirror", fix="apt-get update")

    at = folder / f"{bring_up.PREFIX}x"
    at.mkdir()
    bring_up._claim(at, 0)
    monkeypatch.setattr(guest_image, "build", fail)
    assert main.run(["--json", str(folder / "json")]) == 1
    said = capsys.readouterr().out
    assert said.rstrip().endswith("no mirror (fix: apt-get update)\nFAIL")
    assert "is left from another lab" in said
    assert '"result": "fail"' in (folder / "json").read_text()

    monkeypatch.setattr(bring_up, "remove", fail)
    assert main.run(["--down"]) == 1
    assert "error: no mirror" in capsys.readouterr().err


class Client:
    """Answers as the service would."""

    def __init__(self, *hosts: dict[str, object]) -> None:
        self._hosts = list(hosts)

    def host(self, _label: str) -> dict[str, object]:
        return self._hosts.pop(0) if len(self._hosts) > 1 else self._hosts[0]


def test_a_quarantined_host_is_not_awaited(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = make(folder)
    try:
        client = Client(
            {"state": "booting", "last_boot": None},
            {"state": "quarantined", "reason": "no power", "last_boot": None},
        )
        monkeypatch.setattr(lab, "client", client)
        with pytest.raises(LabError, match="no power"):
            runs._await_prewarmed(lab, set(), lambda _name, _seconds: None)
    finally:
        lab.down()

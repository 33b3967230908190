from __future__ import annotations

from pathlib import Path

import pytest

from cuckoo_zfsiscsi.config import Config
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import DeadlineExceededError, ImageError, NetbootError
from cuckoo_zfsiscsi.netboot.medium import Medium, find, place, prepare
from cuckoo_zfsiscsi.progress import silent
from tests.netboot.conftest import MakeConfig
from tests.netboot.windows_iso import CONTENT, make_iso
from tests.waiting import HANG


@pytest.fixture
def config(make_config: MakeConfig, tmp_path: Path) -> Config:
    loader = tmp_path / "wimboot"
    loader.write_bytes(b"MZ wimboot")
    found = make_config()
    netboot = found.netboot.model_copy(update={"wimboot": loader})
    return found.model_copy(update={"netboot": netboot})


def made(config: Config, iso: Path, share: str | None = None) -> Medium:
    host = config.host("pc1")
    return prepare(config, host, iso, share, deadline=Deadline(HANG), progress=silent)


def test_what_a_host_boots(config: Config, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    medium = prepare(
        config,
        config.host("pc1"),
        make_iso(tmp_path / "win.iso"),
        None,
        deadline=Deadline(HANG),
        progress=lambda *one: told.append(one),
    )
    files = {name: path.read_bytes() for name, path in medium.files.items()}
    assert list(files)[-1] == "boot.wim"
    assert files == {
        "wimboot": b"MZ wimboot",
        "bootmgr": CONTENT["bootmgr"],
        "bootx64.efi": CONTENT["efi/boot/bootx64.efi"],
        "BCD": CONTENT["boot/bcd"],
        "boot.sdi": CONTENT["boot/boot.sdi"],
        "boot.wim": CONTENT["sources/boot.wim"],
        "winpeshl.ini": b'[LaunchApps]\r\n"install.bat"\r\n',
        "install.bat": files["install.bat"],
    }
    assert b"net use Z: \\\\SERVER\\SHARE\r\n" in files["install.bat"]
    assert medium.folder.stat().st_mode & 0o077 == 0
    assert medium.url == "http://10.99.0.1:8471/install/"
    assert find(config, config.hosts[0], medium.folder.name) == medium
    assert {total for _, total in told} == {
        sum(map(len, CONTENT.values())) - len(CONTENT["sources/install.wim"]) - 2
    }
    medium.remove()
    with pytest.raises(NetbootError, match="nothing is prepared"):
        find(config, config.hosts[0], medium.folder.name)


def test_from_a_share(config: Config, tmp_path: Path) -> None:
    iso = make_iso(tmp_path / "win.iso")
    lines = made(config, iso, r"\\10.99.0.1\win10").files["install.bat"].read_text().splitlines()
    assert r"net use Z: \\10.99.0.1\win10 || goto shell" in lines
    assert lines.index("wpeinit") < lines.index(r"Z:\setup.exe") < lines.index(":shell")


@pytest.mark.parametrize(
    "bad", ["win10", r"\\srv", r"\\srv\a & format C:", r"\\srv\%x%", "\\\\srv\\a\nformat", "//s/a"]
)
def test_a_share_can_add_no_command(config: Config, tmp_path: Path, bad: str) -> None:
    with pytest.raises(NetbootError, match="the share"):
        made(config, make_iso(tmp_path / "win.iso"), bad)
    assert not place(config).exists()


def test_an_older_medium_has_no_loader_of_its_own(config: Config, tmp_path: Path) -> None:
    there = {name: CONTENT[name] for name in ("boot/bcd", "boot/boot.sdi", "sources/boot.wim")}
    files = made(config, make_iso(tmp_path / "win.iso", there)).files
    assert not {"bootmgr", "bootx64.efi"} & set(files)


def test_nothing_is_left_of_what_failed(config: Config, tmp_path: Path) -> None:
    linux = make_iso(tmp_path / "linux.iso", {"install.amd/vmlinuz": b"x"})
    with pytest.raises(ImageError, match=r"boot/bcd, boot/boot.sdi, sources/boot.wim is missing"):
        made(config, linux)
    iso = make_iso(tmp_path / "win.iso")
    with iso.open("r+b") as file:
        file.truncate(1_000_000)
    with pytest.raises(ImageError, match="not a whole one"):
        made(config, iso)
    with pytest.raises(DeadlineExceededError):
        prepare(
            config, config.host("pc1"), make_iso(tmp_path / "win.iso"), None,
            deadline=over_soon(), progress=silent,
        )  # fmt: skip
    assert list(place(config).iterdir()) == []


def over_soon() -> Deadline:
    """Return one that is over as soon as the medium's list has been read."""

    class Short(Deadline):
        def sleep(self, seconds: float, what: str) -> None:
            raise DeadlineExceededError(what)

    return Short(30)


def test_no_loader(make_config: MakeConfig, tmp_path: Path) -> None:
    for path, why in ((None, "wimboot is not set"), (tmp_path / "none", "none is not there")):
        found = make_config()
        netboot = found.netboot.model_copy(update={"wimboot": path})
        with pytest.raises(NetbootError, match=why) as caught:
            made(found.model_copy(update={"netboot": netboot}), tmp_path / "win.iso")
        assert "https://ipxe.org/wimboot" in caught.value.fix
        assert "wimboot = " in caught.value.fix


@pytest.mark.parametrize("bad", ["", "..", "../store", "x" * 16, "0123456789abcdef/.."])
def test_a_name_can_not_leave_the_folder(config: Config, bad: str) -> None:
    with pytest.raises(NetbootError, match="medium's name"):
        find(config, config.hosts[0], bad)

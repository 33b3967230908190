"""What people do at a host: the menu of one in maintenance, and Windows' installer."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cuckoo_zfsiscsi.config import load
from cuckoo_zfsiscsi.errors import LabError
from cuckoo_zfsiscsi.lab import guest_image
from cuckoo_zfsiscsi.lab import network as net
from cuckoo_zfsiscsi.lab.appliance.server import INSIDE, ApplianceServer
from cuckoo_zfsiscsi.lab.bring_up import Lab, Store
from cuckoo_zfsiscsi.lab.capture import Capture
from cuckoo_zfsiscsi.lab.conf import BOOT_TIMEOUT, LABEL
from cuckoo_zfsiscsi.netboot.medium import place
from tests.lab import loader
from tests.netboot.windows_iso import CONTENT, make_iso
from tests.waiting import wait

STEP = 1800.0
"""Seconds for one command of the storage server, which may be an emulated machine."""
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.fixture(scope="module", params=["file", "zfs"])
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    image = guest_image.build(guest_image.default_cache(), progress=lambda _: None)
    store: Store = request.param
    with Lab(firmware="bios", store=store, prewarm=False, image=image, say=lambda _: None) as lab:
        yield lab


def shared(lab: Lab) -> tuple[Path, Path]:
    """Return a folder of the storage server's, as it is called here and there."""
    if isinstance(lab.server, ApplianceServer):
        return lab.server.appliance.out, INSIDE
    return lab.at, lab.at


def listing(lab: Lab, folder: Path) -> list[str]:
    """Return what is in a folder of the storage server's."""
    if isinstance(lab.server, ApplianceServer):
        return lab.server.appliance.output(["ls", "-A", str(folder)], timeout=STEP).split()
    return [path.name for path in folder.iterdir()]


def until(
    what: str,
    true: Callable[[], Any],
    lab: Lab,
) -> None:
    def seen() -> str:
        return f"{lab.client.host(LABEL)}\n{console(lab)}"

    wait(true, BOOT_TIMEOUT, what, seen, pause=0.2)


def console(lab: Lab) -> str:
    try:
        said = lab.machine.console.read_bytes()
    except FileNotFoundError:  # it is being switched on
        return ""
    return ESCAPES.sub("", said.decode("ascii", "replace"))


def has_menus(lab: Lab, times: int) -> bool:
    """Whether the menu was drawn so often."""
    return console(lab).count("is in maintenance") >= times


def state(lab: Lab) -> str:
    return str(lab.client.host(LABEL)["state"])


@pytest.mark.matrix
@pytest.mark.lab
@pytest.mark.timeout(3600)
def test_the_menu_of_a_host_in_maintenance(lab: Lab) -> None:
    until("the first reset", lambda: state(lab) == "clean", lab)
    lab.client.maintenance(LABEL, True)
    until("out of service", lambda: state(lab) == "maintenance", lab)
    lab.client.power(LABEL, "on")
    until("the menu", lambda: "Power off" in console(lab), lab)
    assert f"zfsiscsi maintenance {LABEL} off" in console(lab)
    lab.machine.hit("down", "ret")
    shown = f"MAC {net.mac(1)}, address {lab.address}, chip "
    until("its card", lambda: shown in console(lab), lab)
    for times, key in enumerate(("spc", "ret"), 1):  # back; and ask again
        lab.machine.hit(key)
        until("the menu again", partial(has_menus, lab, times + 1), lab)
    assert "Operation not supported (http://ipxe.org/3c09" not in console(lab)
    assert console(lab).count("boot.ipxe... ok") == 2, "asked again"
    lab.machine.hit("down", "down", "down")
    until("its last item but one", lambda: console(lab).rstrip().endswith("Reboot"), lab)
    lab.machine.hit("ret")
    until("a reboot", lambda: console(lab).count("SeaBIOS (version") == 2, lab)
    assert "SAN device" not in console(lab), "it has no disk"


@pytest.mark.matrix
@pytest.mark.lab
@pytest.mark.timeout(3600)
def test_windows_installer_is_started_with_its_disk(lab: Lab, tmp_path: Path) -> None:
    """As far as to wimboot: it has every file, whole, and the disk is attached."""
    here, there = shared(lab)
    wimboot = there / loader.build(here / "wimboot").name
    conf = here / "zfsiscsi.conf"
    conf.write_text(conf.read_text().replace("[netboot]", f"[netboot]\nwimboot = {wimboot}"))
    iso = there / make_iso(here / "win.iso").name
    argv = ["image", "install", LABEL, "win10", "--iso", str(iso), "--size", "1G"]
    with Capture(lab.network, tmp_path / "boot.pcap") as wire:
        lab.server.zfsiscsi(*argv, timeout=STEP)
        until("the loader's end", lambda: loader.END in console(lab), lab)
        seen = [event.what for event in wire.events()]
    assert "login" in seen
    found = loader.Found.read(console(lab))
    generation = lab.client.host(LABEL)["generation"]
    assert {name.rpartition(":")[2] for name in found.names} == {LABEL, f"{LABEL}.g{generation}"}
    given = {
        "bootmgr": CONTENT["bootmgr"],
        "bootx64.efi": CONTENT["efi/boot/bootx64.efi"],
        "BCD": CONTENT["boot/bcd"],
        "boot.sdi": CONTENT["boot/boot.sdi"],
        "boot.wim": CONTENT["sources/boot.wim"],
    }
    assert loader.facts(given).items() <= found.files.items()
    assert set(found.files) - set(given) == {"winpeshl.ini", "install.bat"}
    with pytest.raises(LabError, match="404"):  # as from any other address
        lab.network.run(["curl", "-sSf", f"http://{net.SERVER.ip}:8471/install/boot.wim"])
    with pytest.raises(LabError, match="still has it"):
        lab.server.zfsiscsi("image", "seal", "win10", timeout=STEP)
    lab.client.maintenance(LABEL, False)
    until("back in service", lambda: state(lab) == "clean", lab)
    assert listing(lab, place(load(lab.conf))) == []
    assert "win10@1: 1.1 GB, sealed" in lab.server.zfsiscsi("image", "seal", "win10", timeout=STEP)

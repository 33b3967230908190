"""The paper's mode with a real machine: its reset button alone, no machinery, no power device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cuckoo_zfsiscsi.lab import conf, failure, guest_image, malware, qemu
from cuckoo_zfsiscsi.lab.command import last_words
from cuckoo_zfsiscsi.lab.machine import Machine
from cuckoo_zfsiscsi.lab.network import Network, host_address
from cuckoo_zfsiscsi.lab.server import LocalServer, make_client
from cuckoo_zfsiscsi.lab.way import Dhcp, Way
from cuckoo_zfsiscsi.lab.wire import Wire
from tests.waiting import wait

ADDRESS = str(host_address(1))


class PaperLab:
    """A service, and an emulated host with a button."""

    def __init__(self, at: Path, network: Network, machine: Machine) -> None:
        self.at, self.network, self.machine = at, network, machine

    def host(self) -> dict[str, Any]:
        return make_client(self.at).host("pc1")

    def wait(self, true: Callable[[dict[str, Any]], bool], what: str) -> dict[str, Any]:
        shown: dict[str, Any] = {}

        def look() -> bool:
            nonlocal shown
            shown = self.host()
            return true(shown)

        def seen() -> str:
            return f"{shown}; console: {last_words(self.machine.console)}"

        wait(look, conf.BOOT_TIMEOUT, what, seen, pause=0.2)
        return shown

    def keep_evidence(self, why: str) -> str:
        return failure.keep(self.at, why)

    def ready(self, generation: int) -> dict[str, Any]:
        return self.wait(
            lambda host: host["state"] == "ready" and host["generation"] == generation, "the boot"
        )


@pytest.fixture(params=["dnsmasq", "paper"])
def dhcp(request: pytest.FixtureRequest) -> Dhcp:
    server: Dhcp = request.param
    return server


@pytest.fixture
def lab(tmp_path: Path, network_name: Callable[[], str], dhcp: Dhcp) -> Iterator[PaperLab]:
    image = guest_image.build(guest_image.default_cache(), progress=lambda _: None)
    with Network(network_name()) as network:
        machine = qemu.create(tmp_path / "pc1", 1, "bios", network)
        server = LocalServer(tmp_path, network)
        way = Way(dhcp, reset_on="boot")
        render = partial(conf.render, firmware="bios", power="", prewarm=False, way=way)
        wire = Wire(network, tmp_path)
        try:
            wire.start()
            server.up(image, render, "unused", lambda _: None)
            yield PaperLab(tmp_path, network, machine)
        finally:
            machine.off()
            server.down()
            wire.stop()


@pytest.mark.matrix
@pytest.mark.lab
@pytest.mark.timeout(3000)
def test_a_reset_button_is_all_it_takes(lab: PaperLab, tmp_path: Path, dhcp: Dhcp) -> None:
    """Reboot, and wait for the agent, as CAPE's `physical` does: the system is clean."""
    image = guest_image.build(guest_image.default_cache(), progress=lambda _: None)
    first = lab.wait(lambda host: host["state"] == "clean", "the first disk")["generation"]
    lab.machine.on()
    shown = lab.ready(first)
    wanted = {"script", "login", "rpc", "agent"}
    if dhcp != "paper":  # whose answer to iPXE comes after the script
        wanted.add("dhcp")
    assert wanted <= set(shown["last_boot"]["stages"])
    malware.infect(lab.network, ADDRESS)
    assert not malware.look(lab.network, ADDRESS, image).clean
    lab.machine.reset()
    lab.ready(first + 1)
    found = malware.look(lab.network, ADDRESS, image)
    assert found.clean, found.detail
    log = (tmp_path / "service.log").read_text()
    assert log.count("boots generation") == 2, "not once for each boot"
    assert "gets no boot script" not in log

"""An infected host asks for what is not its own: it gets nothing, and the log names it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cuckoo_zfsiscsi.lab.network import host_address, mac
from tests.faults.farm import Farm
from tests.faults.forked import ForkServer
from tests.faults.patience import SERVICE
from tests.waiting import HANG

ATTACKER = Path(__file__).parents[1] / "faults" / "attacker.py"
LISTENER = "http://10.99.0.1:8471"


@pytest.fixture
def farm(tmp_path: Path, forks: ForkServer) -> Iterator[Farm]:
    """pc1 and pc3 are reset at each boot, pc2 at each start. pc1 and pc2 run; pc3 is off."""
    made = Farm(tmp_path, 3, forks, SERVICE)
    try:
        made.open()
        one, two, three = made.conf.read_text().split("\n[pc")[1:]
        head = made.conf.read_text().split("\n[pc")[0]
        paper = "reset_on = boot\n"
        made.conf.write_text("\n[pc".join([head, one + paper, two, three + paper]))
        made.start()
        made.wait(lambda: set(made.states().values()) == {"clean"}, "the first disks")
        made.machines["pc1"].on()
        made.client.start("pc2", SERVICE)
        made.wait(lambda: made.states()["pc1"] == "ready", "the boot")
        yield made
    finally:
        made.close()


def attack(farm: Farm, *words: str) -> Any:
    """Have malware on pc1 do something; return what it got."""
    argv = ["nsenter", f"--net=/run/netns/{farm.network.name}-1", "--", sys.executable]
    done = subprocess.run(
        [*argv, str(ATTACKER), *words], capture_output=True, text=True, check=True, timeout=HANG
    )
    return json.loads(done.stdout)


def ip(farm: Farm, number: int, *words: str) -> None:
    subprocess.run(["ip", "-n", f"{farm.network.name}-{number}", *words], check=True)


def generations(farm: Farm) -> dict[str, int]:
    return {str(host["label"]): int(host["generation"]) for host in farm.client.hosts()}


def test_it_gets_nothing_and_is_seen(farm: Farm) -> None:
    """Siblings' scripts, by their MAC and IP addresses; the control API; files; floods of DHCP.

    Before: held well.
    Now: it gets nothing, the log names it, and a sibling boots as ever.
    """
    before, states = generations(farm), farm.states()

    def nothing(answer: dict[str, Any]) -> None:
        assert answer == {"status": 404, "text": "not found\n"}

    # Its own MAC again; those of a sibling that runs, and of one that is off
    for number in (1, 2, 3):
        nothing(attack(farm, "ask", f"{LISTENER}/boot.ipxe?mac={mac(number)}"))
    # The same, under the address of the one that is off
    ip(farm, 3, "link", "set", "eth0", "down")
    ip(farm, 1, "addr", "add", f"{host_address(3)}/24", "dev", "eth0")
    ip(farm, 1, "route", "add", "10.99.0.1", "dev", "eth0", "src", str(host_address(3)))
    attack(farm, "arp", mac(1), str(host_address(3)))
    nothing(attack(farm, "ask", f"{LISTENER}/boot.ipxe?mac={mac(3)}"))
    ip(farm, 1, "route", "del", "10.99.0.1")
    ip(farm, 1, "addr", "del", f"{host_address(3)}/24", "dev", "eth0")
    ip(farm, 3, "link", "set", "eth0", "up")
    # The control API
    for path in ("/v1/hosts", "/docs", "/openapi.json", "/v1/boots"):
        nothing(attack(farm, "ask", LISTENER + path))
    nothing(attack(farm, "ask", f"{LISTENER}/v1/hosts/pc2/reset", "POST"))
    # Files
    for name in ("../../../etc/passwd", "/etc/shadow", "pc2.ipxe", "../../../../etc/hostname"):
        answer = attack(farm, "tftp", name)
        assert answer["opcode"] in (0, 5), answer
        assert "root" not in answer["text"]
    # DHCP
    assert attack(farm, "flood", mac(1), "made-up", "300") == {"offers": 0}
    attack(farm, "flood", mac(1), "own", "100")

    farm.wait(lambda: "under made-up addresses" in farm.log.read_text(), "the flood's sender")
    assert generations(farm) == before
    assert farm.states() == states
    log = farm.log.read_text()
    for line in (
        "pc1 gets no boot script: it runs, its session goes on",
        f"pc1 ({mac(1)}) gets no boot script for '{mac(2)}': pc2 has the address",
        f"pc1 ({mac(1)}) gets no boot script for '{mac(3)}': it has taken the address of pc3",
        "pc1 (10.99.0.11) asks the boot listener for 'POST /v1/hosts/pc2/reset'",
        "pc1 (10.99.0.11) asks TFTP for '../../../etc/passwd', which is no boot file",
        f"pc1 ({mac(1)}) floods DHCP: 60 requests",
        f"pc1 ({mac(1)}) floods DHCP under made-up addresses",
    ):
        assert line in log, line
    # The sibling boots as ever
    farm.machines["pc3"].on()
    farm.wait(lambda: farm.states()["pc3"] == "ready", "the sibling's boot")

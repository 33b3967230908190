from __future__ import annotations

import pytest

from cuckoo_zfsiscsi.config import load
from cuckoo_zfsiscsi.service.report import STAGES
from cuckoo_zfsiscsi.service.stall import HINTS, hint, missing_stage
from tests.config.sample import EXAMPLE


@pytest.mark.parametrize(
    ("reached", "missing"),
    [
        ([], "power"),
        (["swap", "arm"], "power"),
        (["power"], "dhcp"),
        (["power", "dhcp", "script"], "login"),  # a ROM that is iPXE: no tftp, no ipxe
        (["login"], "rpc"),
        (["rpc"], "rpc"),
    ],
)
def test_the_stage_that_did_not_come(reached: list[str], missing: str) -> None:
    assert missing_stage(reached, ["rpc"]) == missing


def test_what_to_look_at() -> None:
    host = load(EXAMPLE).hosts[0]
    assert set(HINTS) == set(STAGES)
    assert "zfsiscsi power pc1 status" in hint("power", host)
    assert f"firmware = {host.firmware}" in hint("tftp", host)


def test_a_hint_is_about_the_system_of_its_host() -> None:
    windows = load(EXAMPLE).hosts[0]
    linux = windows.model_copy(update={"platform": "linux"})
    assert hint("agent", windows) == (
        "Windows is up but CAPE's agent is not: does the image start it at logon?"
    )
    assert hint("agent", linux) == (
        "Linux is up but CAPE's agent is not: does the image start it at boot?"
    )
    assert not any("Windows" in hint(stage, linux) for stage in HINTS)

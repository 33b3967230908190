from __future__ import annotations

from itertools import combinations

import pytest

from cuckoo_zfsiscsi.config import load
from cuckoo_zfsiscsi.service.report import STAGES
from cuckoo_zfsiscsi.service.stall import (
    BEFORE_DISK,
    CARD,
    ELSEWHERE,
    GUEST,
    HINTS,
    foreign_system,
    hint,
    missing_stage,
)
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


SIGNS = [*GUEST, *CARD, "session"]


@pytest.mark.parametrize("missing", STAGES)
@pytest.mark.parametrize("shown", [set(one) for n in range(6) for one in combinations(SIGNS, n)])
def test_a_system_that_came_from_elsewhere(missing: str, shown: set[str]) -> None:
    """A host with a disk of its own may stop at every stage before the login."""
    found = foreign_system(missing, {kind: f"its {kind} answers" for kind in shown})
    if missing not in BEFORE_DISK:
        assert not found
    elif shown & set(GUEST):
        assert found in {f"its {kind} answers" for kind in GUEST}
    elif missing == "dhcp" and shown & set(CARD):
        assert found in {f"its {kind} answers" for kind in CARD}
    else:  # PXE and iPXE answer ARP and ping themselves
        assert not found


def test_what_to_do_about_it() -> None:
    assert "network alone" in ELSEWHERE.format(host="pc1")
    assert set(BEFORE_DISK) < set(STAGES)

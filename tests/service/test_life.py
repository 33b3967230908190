"""Whether anything of a host's last boot lives."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from cuckoo_zfsiscsi.config import load
from cuckoo_zfsiscsi.deadline import Cancel
from cuckoo_zfsiscsi.readiness import Answer
from cuckoo_zfsiscsi.service import life
from cuckoo_zfsiscsi.service.pace import Pace
from cuckoo_zfsiscsi.service.parts import Parts
from tests.clocks import VirtualClock
from tests.config.sample import EXAMPLE
from tests.service.fakes import FakeBoots, FakePower, FakeStore, FakeTarget, World


@pytest.mark.parametrize(
    ("answer", "sign"),
    [
        (Answer(ok=True, detail="CAPE Agent!", seconds=0.0, heard=True), "its agent answers"),
        (
            Answer(ok=False, detail="not HTTP: RemoteDisconnected", seconds=0.0, heard=True),
            "its agent answers",
        ),
        (Answer(ok=False, detail="no connection", seconds=0.0, heard=False), ""),
    ],
)
def test_whoever_is_heard_lives(
    world: World,
    clock: VirtualClock,
    answer: Answer,
    sign: str,
) -> None:
    """An agent that CAPE has pinned hangs up on everyone else."""
    parts = Parts(
        store=FakeStore(world),
        target=FakeTarget(world),
        power=FakePower(world),
        boots=FakeBoots(world),
        probes={"agent": lambda _: answer},
        is_held=lambda *_, **__: False,
        pace=Pace(clock=clock),
    )
    (host, *_) = load(EXAMPLE).hosts
    portal = (IPv4Address("10.99.0.1"), 3260)
    assert life.sign_of_life(host, parts, portal, quiet=0.0, cancel=Cancel(clock)) == sign

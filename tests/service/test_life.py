"""Whether anything of a host's last boot lives."""

from __future__ import annotations

import pytest

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.readiness import Answer
from cuckoo_zfsiscsi.service import life
from cuckoo_zfsiscsi.service.pace import Pace
from cuckoo_zfsiscsi.service.parts import Parts
from tests.clocks import VirtualClock
from tests.service.fakes import FakeBoots, FakePower, FakeStore, FakeTarget, World
from tests.waiting import HANG


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
        pace=Pace(clock=clock),
    )
    assert life.sign_of_life(parts, lambda: False, Deadline(HANG, clock=clock)) == sign

"""The real CAPE with PostgreSQL, two hosts, and several tasks at once.

Needs the same as test_real_cape.py, PostgreSQL, and psycopg2 among CAPE's packages.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.lab import conf
from cuckoo_zfsiscsi.lab import network as net
from cuckoo_zfsiscsi.lab.conf import LABEL
from tests.cape import real
from tests.cape.postgres import postgres
from tests.cape.real import ANALYSIS, CLEAN, Rig

pytestmark = [pytest.mark.cape, pytest.mark.timeout(1800)]

TOGETHER = 3 * ANALYSIS
"""Seconds for all tasks: two boots at once share the processors."""


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with (
        postgres() as url,
        real.up(prewarm=False, more=[conf.Host()], at_once=2, database=url) as made,
    ):
        yield made


def run(rig: Rig, names: list[str]) -> None:
    """Submit them all, and wait: each is reported, and was on a clean host."""
    tasks = [rig.client.by_program(rig.sample(name)) for name in names]
    deadline = Deadline(TOGETHER)
    assert {rig.client.wait(task, deadline)["status"] for task in tasks} == {"reported"}
    assert {name: rig.told[name] for name in names} == dict.fromkeys(names, CLEAN)


def status(rig: Rig, label: str) -> str:
    (machine,) = (one for one in rig.client.machines() if one["label"] == label)
    return str(machine["status"])


def test_several_tasks_at_once(rig: Rig) -> None:
    names = ["one", "two", "three", "four"]
    run(rig, names)
    used = set.union(*(rig.callers[name] for name in names))
    assert used == {str(net.host_address(number)) for number in (1, 2)}


def test_one_host_fails_among_them(rig: Rig) -> None:
    """Its task is done by the other, its row waits, and is unlocked when it has healed."""
    fault = rig.lab.machine.state / "fault"
    fault.write_text("stuck-off")
    try:
        names = ["five", "six", "seven"]
        run(rig, names)
        assert {address for name in names for address in rig.callers[name]} == {
            str(net.host_address(2))
        }
        assert status(rig, LABEL) == "quarantined"
    finally:
        fault.unlink()
    rig.wait(lambda: status(rig, LABEL) != "quarantined", "the return")
    run(rig, ["eight", "nine"])

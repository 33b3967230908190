"""Many hosts at once, and nothing real but what they do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.service.boot import POLL
from cuckoo_zfsiscsi.service.pace import RATE
from cuckoo_zfsiscsi.service.report import State
from tests.clocks import VirtualClock
from tests.service.many_hosts import BOOT, ManyHosts

COUNT = 30


@pytest.fixture
def many(tmp_path: Path, clock: VirtualClock) -> Iterator[ManyHosts]:
    made = ManyHosts(COUNT, tmp_path, clock=clock)
    made.open()
    yield made
    made.close()


def test_hosts_that_boot_share_the_looks(many: ManyHosts, clock: VirtualClock) -> None:
    """Each looks once when it is switched on; then one look follows the other, at the rate."""
    looks, begin, seconds = list[tuple[float, str]](), clock.monotonic(), 12
    for label, world in many.worlds.items():
        world.boots = False
        world.before["sessions"] = lambda label=label: looks.append(  # type: ignore[misc]
            (clock.monotonic() - begin, label)
        )
    for host in many.hosts():
        host.start(None, None)
    clock.sleep(POLL + seconds - 0.5 / RATE)
    for world in many.worlds.values():
        del world.before["sessions"]
    first, later = looks[:COUNT], looks[COUNT:]
    assert {at for at, _ in first} == {0.0}
    assert len(later) == seconds * RATE
    assert [at for at, _ in later] == pytest.approx([POLL + n / RATE for n in range(len(later))])
    turns = Counter(label for _, label in later)
    assert set(turns.values()) == {seconds * RATE / COUNT}, "each has its share"


def test_a_run_on_each_of_them(many: ManyHosts, clock: VirtualClock) -> None:
    """Nobody waits for another one: all are ready when they would be, but for turns to look."""
    begin = clock.monotonic()
    runs = [host.start(host.config.label, None) for host in many.hosts()]
    reports = [clock.result(run.booted) for run in runs]
    assert BOOT["agent"] <= clock.monotonic() - begin <= BOOT["agent"] + 2 * COUNT / RATE
    assert [report.host for report in reports] == [host.config.label for host in many.hosts()]
    assert {report.generation for report in reports} == {1}
    cut = clock.monotonic()
    for stopped in [host.stop() for host in many.hosts()]:
        clock.result(stopped)
    assert clock.monotonic() - cut == pytest.approx(0.2), "power is cut on all at once"
    many.until_clean()
    assert {host.report().state for host in many.hosts()} == {State.CLEAN}
    assert {world.generation for world in many.worlds.values()} == {2}

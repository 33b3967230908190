from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from cuckoo_zfsiscsi.cape.client import ServiceError
from cuckoo_zfsiscsi.errors import DeadlineExceededError, HostBusyError, NotReadyError
from cuckoo_zfsiscsi.measure.recovery import ByService, Measurement, Recovery, watched
from cuckoo_zfsiscsi.measure.watch import INTERVAL, Watch
from tests.clocks import VirtualClock
from tests.measure.played import Played
from tests.waiting import HANG


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@contextmanager
def rig(host: Played) -> Iterator[tuple[ByService, list[str]]]:
    told: list[str] = []
    with Watch("127.0.0.1", port=host.port, clock=host.clock) as watch:
        try:
            yield (
                ByService(host, "pc1", watch, start_timeout=9, stop_timeout=9, tell=told.append),
                told,
            )
        finally:
            host.cut()


def test_warm(clock: VirtualClock) -> None:
    host = Played(2.0, clock=clock)
    with rig(host) as (by_service, told):
        runs = list(by_service.runs(2, prewarm=False))
    assert [run.number for run in runs] == [1, 2]
    assert [run.generation for run in runs] == [2, 3]
    for run in runs:
        assert abs(run.recovery_s - 2.0) <= 2 * INTERVAL
        assert run.start_s == 2.0
        assert run.stages["swap"] == 0.2
    assert host.calls == ["start", "stop", "start", "stop", "start", "stop"]
    assert not host.run
    assert told[:3] == ["first start, which does not count", "run 1: power is cut", "run 1: start"]


def test_prewarmed(clock: VirtualClock) -> None:
    """RPC is away as long as ever; who calls start() waits no more."""
    host = Played(2.0, prewarm=True, clock=clock)
    with rig(host) as (by_service, _):
        (run,) = by_service.runs(1, prewarm=True)
    assert abs(run.recovery_s - 2.0) <= 2 * INTERVAL
    assert run.start_s == 0.0


def test_quarantined_while_it_prewarms(clock: VirtualClock) -> None:
    host = Played(0.0, clock=clock)
    with rig(host) as (by_service, _), pytest.raises(NotReadyError, match="quarantined: no DHCP"):
        for _run in by_service.runs(1, prewarm=_to_quarantine(host)):
            pass
    assert host.calls[-1] == "stop"


def _to_quarantine(host: Played) -> bool:
    cut = host.cut

    def cut_and_fail() -> None:
        cut()
        host.state = "quarantined"

    host.cut = cut_and_fail  # type: ignore[method-assign]
    return True


def test_a_host_of_someone_else_is_left_alone(clock: VirtualClock) -> None:
    host = Played(clock=clock)
    host.run, host.task = True, "7"
    with rig(host) as (by_service, _), pytest.raises(HostBusyError, match=r"has a run \(task 7"):
        list(by_service.runs(1, prewarm=False))
    assert host.calls == []


def test_a_failure_leaves_the_host_off(clock: VirtualClock) -> None:
    host = Played(0.0, clock=clock)
    host.fails["start"] = ServiceError("not ready", "no DHCP")
    with rig(host) as (by_service, _), pytest.raises(ServiceError, match="no DHCP"):
        list(by_service.runs(1, prewarm=False))
    assert host.calls == ["start", "stop"]


def test_given_up_in_the_middle_leaves_the_host_off(clock: VirtualClock) -> None:
    host = Played(0.0, clock=clock)
    with rig(host) as (by_service, _):
        found = by_service.runs(5, prewarm=False)
        next(found)
        found.close()
    assert host.calls == ["start", "stop", "start", "stop"]


def test_rpc_that_is_not_reached_from_here(
    monkeypatch: pytest.MonkeyPatch, clock: VirtualClock
) -> None:
    host = Played(0.0, clock=clock)
    monkeypatch.setattr(host, "boot", lambda: None)
    with rig(host) as (by_service, _), pytest.raises(NotReadyError) as failed:
        list(by_service.runs(1, prewarm=False))
    assert "not reached from here" in str(failed.value)
    assert "fix:" in str(failed.value)


@pytest.mark.parametrize("known", [True, False])
def test_watched(known: bool, clock: VirtualClock) -> None:
    """Somebody reboots it, twice; the service's stages are shown if it was the service."""
    host = Played(0.0, clock=clock)
    host.boot()
    told: list[str] = []

    def reboot() -> None:
        for number in (1, 2):
            line = f"run {number}: RPC answers; reboot the host now"
            clock.until(lambda text=line: text in told, line, lambda: told)  # type: ignore[misc]
            host.cut()
            clock.sleep(2.0)
            host.boot()

    somebody = clock.call(reboot)
    with Watch("127.0.0.1", port=host.port, clock=clock) as watch:
        found = watched(
            watch,
            2,
            timeout=HANG,
            tell=told.append,
            last_boot=lambda: (host.host("pc1") if known else {"last_boot": None})["last_boot"],
        )
        runs = list(found)
    clock.result(somebody)
    host.cut()
    assert [run.number for run in runs] == [1, 2]
    for run in runs:
        assert abs(run.recovery_s - 2.0) <= 2 * INTERVAL
        assert run.start_s is None
        assert bool(run.stages) is known
        assert (run.generation is not None) is known
    assert host.calls == []


def test_an_old_boot_is_not_this_one(clock: VirtualClock) -> None:
    host = Played(0.0, clock=clock)
    host.boot()
    old = {"started": time.time() - 600, "generation": 1, "stages": {"rpc": 1.0}}

    def reboot() -> None:
        host.cut()
        clock.sleep(2.0)
        host.boot()

    def tell(what: str) -> None:
        if what.endswith("reboot the host now"):
            clock.call(reboot)

    with Watch("127.0.0.1", port=host.port, clock=clock) as watch:
        (run,) = watched(watch, 1, timeout=HANG, tell=tell, last_boot=lambda: old)
    host.cut()
    assert (run.generation, run.stages) == (None, {})


def test_nobody_reboots_it(clock: VirtualClock) -> None:
    host = Played(0.0, clock=clock)
    host.boot()
    with (
        Watch("127.0.0.1", port=host.port, clock=clock) as watch,
        pytest.raises(DeadlineExceededError, match=r"lost took longer than 3\.0 s"),
    ):
        list(watched(watch, 1, timeout=3.0, tell=lambda _: None, last_boot=lambda: None))
    host.cut()


def test_document() -> None:
    runs = [Recovery(1, 10.0), Recovery(2, 12.0), Recovery(3, 17.0, 1.0, 4, {"rpc": 9.0})]
    found = Measurement("pc1", "10.99.0.11", "warm", "win10", 3, runs).document()
    assert (found["mean_s"], found["median_s"], found["min_s"], found["max_s"]) == (13, 12, 10, 17)
    assert round(found["stdev_s"], 2) == 3.61
    assert found["runs"][2]["stages"] == {"rpc": 9.0}
    none = Measurement("pc1", "10.99.0.11", "warm", "win10", 3).document()
    assert none["mean_s"] is None
    assert none["stdev_s"] is None

"""Metrics as Prometheus' own tool judges them."""

from __future__ import annotations

import subprocess

from cuckoo_zfsiscsi.config import load
from cuckoo_zfsiscsi.errors import DiskError
from cuckoo_zfsiscsi.isolation import NetworkIsolation
from cuckoo_zfsiscsi.power.limit import limiter_for
from cuckoo_zfsiscsi.service.events import KINDS, Event, Kind
from cuckoo_zfsiscsi.service.metrics import Metrics
from cuckoo_zfsiscsi.service.report import HostReport, State
from cuckoo_zfsiscsi.service.storage import StorageLook
from tests.config.sample import EXAMPLE
from tests.service.fakes import FakeStore, World

ALONE = NetworkIsolation("netboot", ["pc1"], "isolated", "pc1 is alone in it")
HOST = HostReport("pc1", State.READY, 12.0, "", "", "", "win10@1", 1, None, False, None)


def make(world: World) -> Metrics:
    look = StorageLook(load(EXAMPLE).storage, FakeStore(world), ["pc1"])
    return Metrics(lambda: [HOST], look.report, lambda: [ALONE])


def read(metrics: Metrics) -> dict[str, float]:
    lines = metrics.text().decode().splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name: float(value) for name, value in pairs}


def test_promtool_finds_no_fault(world: World) -> None:
    metrics = make(world)
    for kind in KINDS:
        for ok in (True, False):
            stages = {"fence": 0.01, "rpc": 30.0, "recovery": 33.0}
            metrics.note(Event("pc1", kind, ok, "x", seconds=3.0, stages=stages))
    argv = ["promtool", "check", "metrics"]
    done = subprocess.run(argv, input=metrics.text(), capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_times(world: World) -> None:
    metrics = make(world)
    for recovery in (44.0, 45.0, 45.1):
        stages = {"swap": 0.02, "rpc": recovery - 1, "recovery": recovery}
        metrics.note(Event("pc1", "boot", True, "ready", seconds=50.0, stages=stages))
    metrics.note(Event("pc1", "boot", False, "given up", seconds=180.0, stages={"swap": 0.02}))
    found = read(metrics)
    assert found['zfsiscsi_recovery_seconds_bucket{host="pc1",le="30.0"}'] == 0
    assert found['zfsiscsi_recovery_seconds_bucket{host="pc1",le="45.0"}'] == 2
    assert found['zfsiscsi_recovery_seconds_bucket{host="pc1",le="60.0"}'] == 3
    assert found['zfsiscsi_recovery_seconds_count{host="pc1"}'] == 3
    assert found['zfsiscsi_recovery_seconds_sum{host="pc1"}'] == 44.0 + 45.0 + 45.1
    assert found['zfsiscsi_stage_seconds_bucket{host="pc1",le="0.05",stage="swap"}'] == 3
    assert found['zfsiscsi_boots_total{host="pc1"}'] == 3
    assert found['zfsiscsi_failed_boots_total{host="pc1"}'] == 1


def test_a_quarantine_counts_once_until_it_is_healed(world: World) -> None:
    metrics = make(world)
    kinds: list[Kind] = ["failure", "failure", "healed", "failure"]
    for kind in kinds:
        metrics.note(Event("pc1", kind, kind == "healed", "x"))
    found = read(metrics)
    assert found['zfsiscsi_quarantines_total{host="pc1"}'] == 2
    assert found['zfsiscsi_failures_total{host="pc1"}'] == 3
    assert found['zfsiscsi_resets_total{host="pc1"}'] == 0


def test_what_is_now(world: World) -> None:
    limiter_for("ipmi://test-metrics:623").errors += 3
    world.spare = True
    found = read(make(world))
    assert found['zfsiscsi_host_state{host="pc1",state="ready"}'] == 1
    assert found['zfsiscsi_host_since_timestamp_seconds{host="pc1"}'] == 12
    assert found['zfsiscsi_bmc_errors_total{peer="ipmi://test-metrics:623"}'] == 3
    assert found['zfsiscsi_spares{host="pc1"}'] == 1
    assert found["zfsiscsi_pool_size_bytes"] == 100 << 30
    assert found["zfsiscsi_pool_free_bytes"] == 40 << 30
    assert found["zfsiscsi_storage_up"] == 1
    assert found["process_resident_memory_bytes"] > 0


def test_a_store_that_can_not_be_looked_at(world: World) -> None:
    world.fail["space"] = DiskError("the pool hangs")
    found = read(make(world))
    assert found["zfsiscsi_storage_up"] == 0
    assert "zfsiscsi_pool_free_bytes" not in found
    assert 'zfsiscsi_host_state{host="pc1",state="ready"}' in found

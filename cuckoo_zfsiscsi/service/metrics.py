"""Metrics for Prometheus: counters fed by events, and gauges read when they are asked for."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from cuckoo_zfsiscsi import __version__
from cuckoo_zfsiscsi.isolation import NetworkIsolation
from cuckoo_zfsiscsi.power.limit import errors_by_peer
from cuckoo_zfsiscsi.service.events import Event
from cuckoo_zfsiscsi.service.histogram import Histogram
from cuckoo_zfsiscsi.service.report import HostReport
from cuckoo_zfsiscsi.service.storage import StorageReport

COUNTERS = {
    "resets": "Clean disks put in place",
    "quarantines": "Times that a host went into quarantine",
    "failures": "Failures of a host, those in quarantine included",
    "boots": "Boots that ended ready",
    "failed_boots": "Boots that were given up",
    "power_actions": "Power switches that were proved",
    "failed_power_actions": "Power switches and questions that failed",
}
"""All by host."""


class Metrics(Collector):
    """Implements Events, and collects for Prometheus.

    Args:
        hosts: returns every host's report.
        storage: returns the store's report; may wait.
        networks: returns what is known of each network.
    """

    def __init__(
        self,
        hosts: Callable[[], Sequence[HostReport]],
        storage: Callable[[], StorageReport],
        networks: Callable[[], Sequence[NetworkIsolation]],
    ) -> None:
        self._hosts = hosts
        self._storage = storage
        self._networks = networks
        self._lock = threading.Lock()
        self._counts: dict[str, Counter[str]] = {name: Counter() for name in COUNTERS}
        self._quarantined: set[str] = set()
        self._recovery = Histogram(
            "zfsiscsi_recovery_seconds",
            "From power cut until RPC answers again, less the time the host idled",
            ("host",),
        )
        self._stages = Histogram(
            "zfsiscsi_stage_seconds",
            "fence, swap, rollback, prove, arm: how long it took; others: since power-on",
            ("host", "stage"),
        )
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def note(self, event: Event) -> None:
        """As Events.note()."""
        host, counts = event.host, self._counts
        with self._lock:
            if event.kind == "boot":
                counts["boots" if event.ok else "failed_boots"][host] += 1
                self._time(event)
            elif event.kind == "reset":
                counts["resets"][host] += 1
            elif event.kind == "power":
                counts["power_actions" if event.ok else "failed_power_actions"][host] += 1
            elif event.kind == "failure":
                counts["failures"][host] += 1
                counts["quarantines"][host] += host not in self._quarantined
                self._quarantined.add(host)
            else:
                self._quarantined.discard(host)

    def _time(self, event: Event) -> None:
        if not event.ok:  # a boot that never ended has no time
            return
        for stage, seconds in event.stages.items():
            if stage == "recovery":
                self._recovery.observe((event.host,), seconds)
            else:
                self._stages.observe((event.host, stage), seconds)

    def text(self) -> bytes:
        """Return all of them in Prometheus' text format, version 0.0.4. Waits."""
        return generate_latest(self._registry)

    def describe(self) -> list[Metric]:
        """As Collector.describe(): nothing is asked before the fleet is open."""
        return []

    def collect(self) -> Iterator[Metric]:
        """As Collector.collect()."""
        hosts = self._hosts()
        yield InfoMetricFamily("zfsiscsi", "The service", {"version": __version__})
        yield from _states(hosts)
        with self._lock:
            for name, text in COUNTERS.items():
                family = CounterMetricFamily(f"zfsiscsi_{name}", text, labels=("host",))
                for host in hosts:  # zeros too: a rate needs a beginning
                    family.add_metric((host.label,), self._counts[name][host.label])
                yield family
            for host in hosts:
                self._recovery.expect((host.label,))
            found = [self._recovery.family(), self._stages.family()]
        yield from found
        errors = CounterMetricFamily(
            "zfsiscsi_bmc_errors", "Commands to a power device that failed", labels=("peer",)
        )
        for peer, count in sorted(errors_by_peer().items()):
            errors.add_metric((peer,), count)
        yield errors
        yield from _of_storage(self._storage())
        yield _of_networks(self._networks())


def _states(hosts: Sequence[HostReport]) -> Iterator[Metric]:
    state = GaugeMetricFamily(
        "zfsiscsi_host_state", "1 for the state that a host is in", labels=("host", "state")
    )
    since = GaugeMetricFamily(
        "zfsiscsi_host_since_timestamp_seconds",
        "When it came into its state, since the epoch",
        labels=("host",),
    )
    for host in hosts:
        state.add_metric((host.label, host.state.value), 1)
        since.add_metric((host.label,), host.since)
    yield state
    yield since


def _of_networks(networks: Sequence[NetworkIsolation]) -> Metric:
    state = GaugeMetricFamily(
        "zfsiscsi_network_isolation",
        "1 for what is known of a network's hosts: isolated from each other, not isolated, "
        "or not known",
        labels=("network", "state"),
    )
    for one in networks:
        state.add_metric((one.network, one.state), 1)
    return state


def _of_storage(report: StorageReport) -> Iterator[Metric]:
    spares = GaugeMetricFamily("zfsiscsi_spares", "Clean disks kept ready", labels=("host",))
    for label, count in report.spares.items():
        spares.add_metric((label,), count)
    yield spares
    values = {
        "zfsiscsi_storage_up": ("1 if the store could be looked at", int(not report.problem)),
    }
    if report.space:
        values["zfsiscsi_pool_size_bytes"] = ("Of the store", report.space.total)
        values["zfsiscsi_pool_free_bytes"] = ("That the store may take", report.space.free)
        values["zfsiscsi_images"] = ("Versions of images", len(report.images))
        values["zfsiscsi_evidence_disks"] = ("Disks kept as evidence", len(report.evidence))
        used = sum(one.used for one in report.evidence)
        values["zfsiscsi_evidence_bytes"] = ("That evidence takes", used)
    for name, (text, value) in values.items():
        yield GaugeMetricFamily(name, text, value=value)

"""Histograms of seconds by host and stage, a few hundred bytes each: there are thousands."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterator

from prometheus_client.core import HistogramMetricFamily

BUCKETS = (0.05, 0.25, 1.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0, 180.0)
"""Upper bounds in seconds: milliseconds of a swap to minutes of a large guest's boot."""
_BOUNDS = [*map(str, BUCKETS), "+Inf"]


class Histogram:
    """One metric with labels. One thread at a time.

    Args:
        name: of the metric, with its unit.
        text: what it is, for people.
        labels: their names.
    """

    def __init__(self, name: str, text: str, labels: tuple[str, ...]) -> None:
        self._about = (name, text)
        self._labels = labels
        self._counts: dict[tuple[str, ...], array[int]] = {}
        self._sums: dict[tuple[str, ...], float] = {}

    def expect(self, labels: tuple[str, ...]) -> None:
        """Begin with none: Prometheus sees the first value only as an increase."""
        if labels not in self._counts:
            self._counts[labels] = array("Q", bytes(8 * len(_BOUNDS)))
            self._sums[labels] = 0.0

    def observe(self, labels: tuple[str, ...], seconds: float) -> None:
        """Count one value."""
        self.expect(labels)
        self._counts[labels][bisect_left(BUCKETS, seconds)] += 1
        self._sums[labels] += seconds

    def family(self) -> HistogramMetricFamily:
        """Return all of it, as prometheus_client takes it."""
        family = HistogramMetricFamily(*self._about, labels=self._labels)
        for labels, counts in self._counts.items():
            buckets = list(zip(_BOUNDS, _summed(counts), strict=True))
            family.add_metric(labels, buckets, self._sums[labels])
        return family


def _summed(counts: array[int]) -> Iterator[int]:
    total = 0
    for count in counts:
        total += count
        yield total

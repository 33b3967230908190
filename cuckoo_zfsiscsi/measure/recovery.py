"""Recovery times of one host, by the paper's definition (section 6.2)."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator
from dataclasses import asdict, dataclass, field
from statistics import mean, median, stdev
from typing import Any, Literal, Protocol

from cuckoo_zfsiscsi.cape.transport import ServiceError
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import HostBusyError, NotReadyError, ZfsIscsiError
from cuckoo_zfsiscsi.measure.watch import ATTEMPT, Watch

SEEN = 60.0
"""Seconds within which RPC must be seen as the service sees it: a busy guest answers late."""
POLL = 0.5
"""Seconds between two looks at the service."""
TASK = "measure"
"""What our runs are called in the service's records."""

Json = dict[str, Any]
Mode = Literal["warm", "prewarmed", "watched"]
Tell = Callable[[str], None]


class Service(Protocol):
    """What is asked of the service, see cape.client."""

    def host(self, label: str) -> Json:
        """Return one host."""
        ...

    def start(
        self, label: str, timeout: float, task: str | None = None, image: str | None = None
    ) -> Json:
        """Make the host ready; return the boot report."""
        ...

    def stop(self, label: str, timeout: float) -> Json:
        """End the run."""
        ...


@dataclass(frozen=True, slots=True)
class Recovery:
    """One outage of RPC."""

    number: int
    recovery_s: float
    """Seconds from RPC lost to RPC answering again."""
    start_s: float | None = None
    """Seconds that a caller of start() waited; None: nobody called it."""
    generation: int | None = None
    """Of the disk that it came back with; None: the service did not boot it."""
    stages: dict[str, float] = field(default_factory=dict)
    """Seconds, see service.report.BootReport; empty: the service did not boot it."""


@dataclass(slots=True)
class Measurement:
    """All runs of one host."""

    host: str
    address: str
    mode: Mode
    image: str
    wanted: int
    runs: list[Recovery] = field(default_factory=list)

    @property
    def times(self) -> list[float]:
        """Recovery times in seconds, in the order of the runs."""
        return [run.recovery_s for run in self.runs]

    def document(self) -> Json:
        """Return the JSON document; times in seconds."""
        times = self.times
        return {
            "host": self.host,
            "address": self.address,
            "mode": self.mode,
            "image": self.image,
            "runs": [asdict(run) for run in self.runs],
            "mean_s": mean(times) if times else None,
            "median_s": median(times) if times else None,
            "min_s": min(times, default=None),
            "max_s": max(times, default=None),
            "stdev_s": stdev(times) if len(times) > 1 else None,
        }


class ByService:
    """Has the service stop and start the host, each time from a clean disk.

    Args:
        service: its client.
        label: of the host.
        watch: of the host, open.
        start_timeout: seconds for start().
        stop_timeout: seconds for stop().
        tell: told what is being done.
    """

    def __init__(
        self,
        service: Service,
        label: str,
        watch: Watch,
        *,
        start_timeout: float,
        stop_timeout: float,
        tell: Tell,
    ) -> None:
        self._service = service
        self._label = label
        self._watch = watch
        self._clock = watch.clock
        self._start_timeout = start_timeout
        self._stop_timeout = stop_timeout
        self._tell = tell
        self._up = 0.0

    def runs(self, wanted: int, *, prewarm: bool) -> Generator[Recovery, None, None]:
        """Give each run when it is over. The host is off at the end, whatever happens.

        Args:
            wanted: how many; one start before them does not count.
            prewarm: the service boots the host by itself as soon as a run ends.

        Raises:
            HostBusyError: it has a run of someone else.
            ServiceError: the service can't start or stop it.
            NotReadyError, DeadlineExceededError: RPC is not seen as it should be.
        """
        host = self._service.host(self._label)
        if host["run"]:
            task = f" (task {host['task']})" if host["task"] else ""
            raise HostBusyError(
                f"{self._label} has a run{task}",
                fix=f"wait for its end, or: zfsiscsi measure recovery {self._label} "
                "--until-rpc-lost",
            )
        self._tell("first start, which does not count")
        try:
            self._service.start(self._label, self._start_timeout, TASK)
            self._up = self._see_up(0.0)
            for number in range(1, wanted + 1):
                yield self._once(number, prewarm)
        except BaseException:
            with contextlib.suppress(ServiceError):  # the first failure is what counts
                self._service.stop(self._label, self._stop_timeout)
            raise
        self._service.stop(self._label, self._stop_timeout)

    def _once(self, number: int, prewarm: bool) -> Recovery:
        self._tell(f"run {number}: power is cut")
        cut = self._clock.monotonic()
        self._service.stop(self._label, self._stop_timeout)
        # The first probe that failed may have been asked before
        down = self._watch.lost(self._deadline(SEEN), after=max(self._up, cut - ATTEMPT))
        if prewarm:
            self._tell(f"run {number}: the service boots it ahead")
            self._await_prewarmed()
        self._tell(f"run {number}: start")
        began = self._clock.monotonic()
        report = self._service.start(self._label, self._start_timeout, TASK)
        took = self._clock.monotonic() - began
        self._up = self._see_up(down)
        return Recovery(
            number, self._up - down, took, int(report["generation"]), dict(report["stages"])
        )

    def _await_prewarmed(self) -> None:
        deadline = self._deadline(self._start_timeout)
        while (host := self._service.host(self._label))["state"] != "ready":
            if host["state"] == "quarantined":
                raise NotReadyError(f"{self._label} is quarantined: {host['reason']}")
            deadline.sleep(POLL, f"{self._label}, prewarming,")

    def _deadline(self, seconds: float) -> Deadline:
        return Deadline(seconds, clock=self._clock)

    def _see_up(self, after: float) -> float:
        try:
            return self._watch.up(self._deadline(SEEN), after=after)
        except ZfsIscsiError:
            raise NotReadyError(
                f"the service says that {self._label} is ready, but RPC of {self._watch.address} "
                "is not reached from here",
                fix=f"run it on the storage server; zfsiscsi probe {self._watch.address}",
            ) from None


def watched(
    watch: Watch,
    wanted: int,
    *,
    timeout: float,
    tell: Tell,
    last_boot: Callable[[], Json | None],
) -> Generator[Recovery, None, None]:
    """Give each outage when it is over; whoever wants reboots the host. Nothing is switched.

    Args:
        watch: of the host, open.
        wanted: how many.
        timeout: seconds to wait for each change.
        tell: told what is awaited.
        last_boot: returns the service's report of the host's last boot, if there is one.

    Raises:
        DeadlineExceededError: RPC did not change.
    """
    tell("waiting until RPC answers")
    clock = watch.clock
    up = watch.up(Deadline(timeout, clock=clock))
    for number in range(1, wanted + 1):
        tell(f"run {number}: RPC answers; reboot the host now")
        down = watch.lost(Deadline(timeout, clock=clock), after=up)
        lost_at = time.time() - (clock.monotonic() - down)
        tell(f"run {number}: RPC is lost")
        up = watch.up(Deadline(timeout, clock=clock), after=down)
        boot = last_boot()
        if boot and boot["started"] > lost_at - SEEN:
            yield Recovery(number, up - down, None, int(boot["generation"]), dict(boot["stages"]))
        else:
            yield Recovery(number, up - down)

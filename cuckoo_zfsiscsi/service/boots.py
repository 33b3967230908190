"""A boot on record is an event of the history: how it becomes one, and is told from one."""

from __future__ import annotations

from cuckoo_zfsiscsi.service.events import Event
from cuckoo_zfsiscsi.service.report import BootReport

RECOVERY = "recovery"
"""Among the event's stages: BootReport.recovery_s."""
BUT = "; "
"""What comes before the warning of a boot that is ready."""


def to_event(report: BootReport, seconds: float) -> Event:
    """Return the event of a boot that is ready, has stalled or has failed.

    Args:
        report: of it.
        seconds: since it began.
    """
    stages = dict(report.stages)
    if report.recovery_s is not None:
        stages[RECOVERY] = report.recovery_s
    ready = "ready, prewarmed" if report.prewarmed else "ready"
    if report.warning:
        ready += BUT + report.warning
    return Event(
        report.host,
        "boot",
        ok=report.ready,
        what=ready if report.ready else report.stalled,
        generation=report.generation,
        image=report.image,
        seconds=seconds,
        stages=stages,
        prewarmed=report.prewarmed,
    )


def from_event(event: Event) -> BootReport:
    """Return the boot that an event tells of."""
    stages = dict(event.stages)
    recovery = stages.pop(RECOVERY, None)
    return BootReport(
        event.host,
        event.generation or 0,
        event.image or "",
        event.prewarmed,
        started=event.at - (event.seconds or 0.0),
        stages=stages,
        recovery_s=recovery,
        ready=event.ok,
        stalled="" if event.ok else event.what,
        warning=event.what.partition(BUT)[2] if event.ok else "",
    )

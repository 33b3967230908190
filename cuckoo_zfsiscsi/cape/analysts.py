"""Tells analysts what their reports may lack, and CAPE would not say."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from cuckoo_zfsiscsi.cape.client import Client, Json, ServiceError
from cuckoo_zfsiscsi.cape.task import current_object, tell_analyst
from cuckoo_zfsiscsi.cape.unmet import mismatches, unmet_wishes

log = logging.getLogger(__name__)


class Analysts:
    """Knows which task has which host. Safe from any thread; it never fails."""

    def __init__(self) -> None:
        self._tasks: dict[str, str] = {}
        """By label: whichever thread stops the host, this task is told."""
        self._mismatches: dict[str, list[str]] = {}

    def compare(self, machines: Iterable[Any], client: Client) -> None:
        """Find what CAPE and the service have written down differently, for tasks to be told."""
        try:
            view = client.cape()
            found = {str(machine.label): mismatches(machine, view) for machine in machines}
        except (ServiceError, AttributeError, LookupError, TypeError) as error:
            log.warning("CAPE's and the service's configuration can't be compared: %s", error)
            return
        self._mismatches = found
        for what in (what for whats in found.values() for what in whats):
            log.warning("%s", what)

    def run_began(self, label: str, task: str | None, *, memory_dump: bool) -> None:
        """Tell a task what its report will lack though its host is ready.

        Args:
            label: of the host.
            task: that has it; None: nobody is told of this run.
            memory_dump: of cuckoo.conf.
        """
        if task is None:
            self._tasks.pop(label, None)
            return
        self._tasks[label] = task
        unmet = unmet_wishes(current_object(), memory_dump=memory_dump)
        for what in (*unmet, *self._mismatches.get(label, ())):
            tell_analyst(task, f"{label}: {what}")

    def run_ended(self, label: str, host: Json) -> None:
        """Tell the run's task what the service saw in it. Nobody is told of this run any more.

        Args:
            label: of the host.
            host: what the service says of it after the run.
        """
        seen, task = host.get("seen"), self._tasks.pop(label, None)
        if task and isinstance(seen, list) and seen:
            told = "; ".join(map(str, seen))
            tell_analyst(
                task, f"seen of {label} in this run, which may explain an empty report: {told}"
            )

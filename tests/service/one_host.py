"""A fleet of one host, as the control API and the dashboard see it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from cuckoo_zfsiscsi.config import Config, load
from cuckoo_zfsiscsi.errors import UnknownHostError
from cuckoo_zfsiscsi.service.events import Everyone
from cuckoo_zfsiscsi.service.history import History
from cuckoo_zfsiscsi.service.host import Host
from cuckoo_zfsiscsi.service.isolation import IsolationLook
from cuckoo_zfsiscsi.service.metrics import Metrics
from cuckoo_zfsiscsi.service.recent import Recent
from cuckoo_zfsiscsi.service.recorded import RecordedPower
from cuckoo_zfsiscsi.service.storage import StorageLook
from tests.config.sample import EXAMPLE


class OneHost:
    """What they need of a fleet; its history is in the folder given."""

    def __init__(self, host: Host, folder: Path) -> None:
        label = host.config.label
        self.config: Config = load(EXAMPLE)
        self.history = History(folder / "runs.sqlite")
        self.recent = Recent([label])
        self._host = host
        parts = host._steps.parts
        self.storage = StorageLook(self.config.storage, parts.store, [label], parts.clock)
        self.isolation = IsolationLook(self.config, self.history)
        self.metrics = Metrics(lambda: [host.report()], self.storage.report, self.isolation.report)
        events = Everyone([self.history, self.recent, self.metrics])
        host._steps.parts = replace(
            parts,
            runs=self.history,
            events=events,
            power=RecordedPower(label, parts.power, events),
        )

    def hosts(self) -> list[Host]:
        return [self._host]

    def host(self, label: str) -> Host:
        if label != self._host.config.label:
            raise UnknownHostError(f"no host {label!r} here", fix="zfsiscsi hosts")
        return self._host

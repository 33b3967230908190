from __future__ import annotations

import re
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar

import pytest

from bench import recovery
from bench.recovery import WAYS, labs, summarize, table
from cuckoo_zfsiscsi.lab import conf, malware

SECONDS = {"local": [10.0, 30.0, 20.0], "loadvm": [1.0, 2.0, 9.0]}


def test_rows() -> None:
    local, loadvm = summarize(SECONDS)
    assert local["way"] == WAYS["local"]
    assert (local["median_s"], local["ratio"]) == (20.0, 1.0)
    assert (loadvm["min_s"], loadvm["median_s"], loadvm["max_s"]) == (1.0, 2.0, 9.0)
    assert loadvm["ratio"] == 0.1


def test_the_table_fits_into_the_docs() -> None:
    line, head, _, local, loadvm, _ = table(summarize(SECONDS)).splitlines()
    columns = [slice(*found.span()) for found in re.finditer("=+", line)]
    cells = [[text[column].strip() for column in columns] for text in (head, local, loadvm)]
    assert cells == [
        ["way", "median s", "min", "max", "ratio to a"],
        [WAYS["local"], "20.00", "10.00", "30.00", "1.000"],
        [WAYS["loadvm"], "2.00", "1.00", "9.00", "0.100"],
    ]
    assert max(map(len, (head, local, loadvm))) <= len(line)


class FakeLab:
    """Notes which of its hosts is started and stopped."""

    made: ClassVar[list[FakeLab]] = []

    def __init__(
        self, *, store: str = "file", more: list[conf.Host] | None = None, **_: Any
    ) -> None:
        self.store = store
        self.hosts = [conf.Host(), *(more or [])]
        self.machines = [self] * len(self.hosts)
        self.plugin = self.client = self
        self.network = self.image = None
        self.did: list[tuple[str, str]] = []
        self.made.append(self)

    def __enter__(self) -> FakeLab:
        return self

    def __exit__(self, *_: object) -> None: ...

    def start(self, label: str) -> None:
        self.did.append(("start", label))

    def stop(self, label: str) -> None:
        self.did.append(("stop", label))

    def maintenance(self, label: str, _on: bool) -> None:
        self.did.append(("maintenance", label))

    def host(self, _label: str) -> dict[str, str]:
        return {"state": "maintenance"}

    def off(self) -> None: ...


def test_which_host_is_measured_for_which_way(monkeypatch: pytest.MonkeyPatch) -> None:
    def once(_network: None, _image: None, restore: recovery.Restore, *, number: int) -> float:
        restore()
        return float(number)

    monkeypatch.setattr(recovery, "Lab", FakeLab)
    monkeypatch.setattr(recovery, "once", once)
    monkeypatch.setattr(malware, "infect", lambda _network, _address: None)
    with ExitStack() as stack:
        ways = labs(Path("image"), stack)
    zfs, files = FakeLab.made
    assert (zfs.store, files.store) == ("zfs", "file")
    assert ("maintenance", "pc3") in zfs.did
    assert zfs.hosts[2].prewarm
    for way, lab, reset in (
        ("rollback", zfs, "rollback"),
        ("swap", zfs, "swap"),
        ("files", files, "swap"),
    ):
        lab.did.clear()
        number = int(ways[way]())
        assert lab.hosts[number - 1].reset == reset
        assert lab.did == [("stop", conf.label(number)), ("start", conf.label(number))]

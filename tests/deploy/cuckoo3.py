"""Cuckoo3 as its machinery modules see it: the same modules, classes and signatures, no more."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

ADAPTER = Path(__file__).parents[2] / "deploy/cuckoo3/zfsiscsi.py"


class MachineryError(Exception):
    pass


class MachineryConnectionError(MachineryError):
    pass


class MachineryDependencyError(MachineryError):
    pass


class MachineNotFoundError(MachineryError):
    pass


class MachineStateReachedError(MachineryError):
    pass


class States:
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    POWEROFF = "poweroff"


@dataclass
class Machine:
    name: str
    label: str
    snapshot: str | None = None
    locked_by: str = ""


class Machinery:
    name = ""

    def __init__(self, cfg: dict[str, Any]) -> None:
        self.cfg = cfg
        self.machines: list[Machine] = []
        self.captured: list[tuple[str, int]] = []

    def init(self) -> None: ...

    def load_machines(self) -> None:
        for name, values in self.cfg["machines"].items():
            self.machines.append(Machine(name, values["label"], values["snapshot"]))

    def start_netcapture(
        self,
        machine: Machine,
        pcap_path: Path,
        ignore_ip_ports: list[tuple[str, int]] = [],  # noqa: B006 - Cuckoo3's
    ) -> None:
        self.captured = ignore_ip_ports


class Log:
    """Takes keys besides the text, as Cuckoo3's own."""

    def __init__(self, name: str) -> None:
        self.lines: list[str] = []

    def warning(self, msg: str, **keys: object) -> None:
        self.lines.append(f"{msg} {keys}")


def loader(*_args: Any, **_options: Any) -> None:
    """Play a type of values in a configuration file."""


@contextmanager
def imported(**missing: None) -> Iterator[Any]:
    """Import the adapter as Cuckoo3 does, with these modules missing; yield the module."""
    here = sys.modules[__name__]
    kinds = ("String", "FilePath", "NetworkInterface", "NestedDictionary", "Int", "List")
    config = SimpleNamespace(**dict.fromkeys(kinds, loader))
    modules: dict[str, dict[str, Any]] = {
        "cuckoo": {},
        "cuckoo.common": {"config": config, "machines": here},
        "cuckoo.common.log": {"CuckooGlobalLogger": Log},
        "cuckoo.machineries": {"errors": here},
        "cuckoo.machineries.abstracts": {"Machinery": Machinery},
        "cuckoo.machineries.config": {"MACAddress": loader, "typeloaders": {"kvm.yaml": {}}},
    }
    before = dict(sys.modules)
    try:
        for name, content in modules.items():
            sys.modules[name] = ModuleType(name)
            vars(sys.modules[name]).update(content)
        sys.modules.update(missing)  # type: ignore[arg-type]  # None: Python's way to say so
        name = "cuckoo.machineries.modules.zfsiscsi"
        spec = importlib.util.spec_from_file_location(name, ADAPTER)
        assert spec
        assert spec.loader
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module
    finally:
        for name in set(sys.modules) - set(before):
            if name.startswith("cuckoo."):
                del sys.modules[name]
        sys.modules.pop("cuckoo", None)
        sys.modules.update({name: before[name] for name in missing if name in before})
        for name in set(missing) - set(before):
            del sys.modules[name]

"""Finds a probe by its name: that of its module here."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Protocol

from cuckoo_zfsiscsi import readiness
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import ConfigError
from cuckoo_zfsiscsi.readiness import Answer


class Probe(Protocol):
    """Asks a guest once. A module of readiness with such a probe() is all that registers it."""

    def __call__(self, address: str, port: int = ..., *, deadline: Deadline) -> Answer:
        """Ask; whatever the guest does, the answer is an Answer.

        Args:
            address: IP address of the guest.
            port: TCP port; each probe has its usual one.
            deadline: for this one attempt.

        Raises:
            CancelledError: nothing else.
        """
        ...


def probes() -> dict[str, Probe]:
    """Return every probe by name."""
    names = sorted(module.name for module in pkgutil.iter_modules(readiness.__path__))
    modules = {name: importlib.import_module(f"{readiness.__name__}.{name}") for name in names}
    return {name: module.probe for name, module in modules.items() if hasattr(module, "probe")}


def find_probe(name: str) -> Probe:
    """Return one probe.

    Raises:
        ConfigError: there is none of this name.
    """
    known = probes()
    if name not in known:
        raise ConfigError(f"ready: there is no probe {name}", fix=f"use {', '.join(known)}")
    return known[name]

"""Which host may have which boot script, now."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass

from cuckoo_zfsiscsi.config import HostConfig
from cuckoo_zfsiscsi.config.network import parse_mac
from cuckoo_zfsiscsi.config.wrong import WrongValueError
from cuckoo_zfsiscsi.errors import UnknownHostError
from cuckoo_zfsiscsi.netboot import OnEvent

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Entry:
    label: str
    ip: str
    script: str | None = None
    asked: bool = False


class Boots:
    """Hands a script to an armed host that asks from its own address, and nothing to others.

    Safe from any thread.

    Args:
        hosts: all that exist.
        on_event: told (label, "script", monotonic seconds) at the first answer after each arm().
    """

    def __init__(self, hosts: Iterable[HostConfig], on_event: OnEvent) -> None:
        self._lock = threading.Lock()
        self._by_label = {host.label: _Entry(host.label, str(host.ip)) for host in hosts}
        self._by_mac = {host.mac: self._by_label[host.label] for host in hosts}
        self._on_event = on_event

    def arm(self, label: str, script: str) -> None:
        """Serve this script to the host from now on, whenever it asks.

        Raises:
            UnknownHostError: no such host.
        """
        self._set(label, script)

    def disarm(self, label: str) -> None:
        """Serve the host nothing from now on.

        Raises:
            UnknownHostError: no such host.
        """
        self._set(label, None)

    def _set(self, label: str, script: str | None) -> None:
        with self._lock:
            entry = self._by_label.get(label)
            if entry is None:
                raise UnknownHostError(f"no host is called {label}", fix="zfsiscsi hosts")
            entry.script = script
            entry.asked = False

    def lookup(self, mac: str, source: str) -> str | None:
        """Return the script for who asks; None, with the reason in the log, if it gets none.

        Args:
            mac: as it says itself, in any usual notation.
            source: IP address that it asks from.
        """
        at = time.monotonic()
        with self._lock:
            entry = self._by_mac.get(normalize(mac))
            script = entry.script if entry and entry.ip == source else None
            first = bool(entry and script and not entry.asked)
            if entry and first:
                entry.asked = True
        if entry and first:
            self._on_event(entry.label, "script", at)
        if script is None:
            log.warning("no boot script for %.40r at %s: %s", mac, source, _why(entry, mac, source))
        return script


def normalize(mac: str) -> str:
    """Return a MAC address as the configuration has it, or "" if it is none of a network card."""
    try:
        return parse_mac(mac)
    except WrongValueError:
        return ""


def _why(entry: _Entry | None, mac: str, source: str) -> str:
    if entry is None:
        return "no host has this MAC address" if normalize(mac) else "that is no MAC address"
    if entry.ip != source:
        return f"{entry.label} has the address {entry.ip}"
    return f"{entry.label} is not armed"

"""Which host may have which boot script, now."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol

from cuckoo_zfsiscsi.clock import SYSTEM, Clock
from cuckoo_zfsiscsi.config import HostConfig
from cuckoo_zfsiscsi.config.network import parse_mac
from cuckoo_zfsiscsi.config.wrong import WrongValueError
from cuckoo_zfsiscsi.errors import BootRefusedError, UnknownHostError
from cuckoo_zfsiscsi.netboot import OnEvent
from cuckoo_zfsiscsi.netboot.offences import Offences, neighbour

Ask = Callable[[], "str | Future[str]"]
"""Called at each request of a host for its boot script. It does not wait: it returns the script, or
what is done when there is one, or fails with a ZfsIscsiError; whoever cancels that has not got the
script. It raises BootRefusedError if there will be none."""


class Maker(Protocol):
    """An Ask that is told who carries the request: DHCP's clients repeat theirs, HTTP's do not."""

    def __call__(self, *, by_dhcp: bool = False) -> str | Future[str]:
        """Take a request."""


@dataclass(slots=True)
class _Entry:
    label: str
    ip: str
    listener: str
    script: str | Ask | None = None
    files: Mapping[str, Path] = field(default_factory=dict)
    make: Maker | None = None
    """Goes before `script`, whether there is one or not."""

    def may_ask(self, source: str, asked: str) -> bool:
        """Whether the host has this IP address, and its network that one of the server's."""
        return self.ip == source and ("" in (asked, self.listener) or asked == self.listener)


class Boots:
    """Hands a script to an armed host that asks from its own address, and nothing to others.

    Safe from any thread.

    Args:
        hosts: all that exist.
        on_event: told (label, "script", monotonic seconds) each time that a host gets its script,
            and (label, "unarmed", ...) when one asks that is not armed.
        neighbour: tells the MAC address of an IP address, "" if it is not known.
        listeners: the server's address in each host's network, by label. A host that asks at
            another gets nothing; without one it may ask at any.
        clock: that moments and periods go by.
    """

    def __init__(
        self,
        hosts: Iterable[HostConfig],
        on_event: OnEvent,
        neighbour: Callable[[str], str] = neighbour,
        listeners: Mapping[str, str] | None = None,
        clock: Clock = SYSTEM,
    ) -> None:
        hosts, listeners = list(hosts), listeners or {}
        self.offences = Offences(hosts, clock)
        self._clock = clock
        self._neighbour = neighbour
        self._lock = threading.Lock()
        self._by_label = {
            host.label: _Entry(host.label, str(host.ip), listeners.get(host.label, ""))
            for host in hosts
        }
        self._by_mac = {host.mac: self._by_label[host.label] for host in hosts}
        self._on_event = on_event

    def arm(self, label: str, script: str | Ask, files: Mapping[str, Path] | None = None) -> None:
        """Serve this script to the host from now on, whenever it asks.

        Args:
            label: of the host.
            script: for it; or who decides at each request, and makes it.
            files: by name; that this host alone may load as long as it is armed with this script.

        Raises:
            UnknownHostError: no such host.
        """
        self._set(label, script, files or {})

    def disarm(self, label: str) -> None:
        """Serve the host nothing from now on.

        Raises:
            UnknownHostError: no such host.
        """
        self._set(label, None, {})

    def make_when_asked(self, label: str, make: Maker) -> None:
        """Have each script of this host made when it asks for it; it is never armed.

        Raises:
            UnknownHostError: no such host.
        """
        with self._lock:
            self._find(label).make = make

    def _set(self, label: str, script: str | Ask | None, files: Mapping[str, Path]) -> None:
        with self._lock:
            entry = self._find(label)
            entry.script, entry.files = script, files

    def knows(self, source: str, asked: str = "") -> bool:
        """Whether a host has this IP address, and may ask at that one of the server's."""
        return any(entry.may_ask(source, asked) for entry in self._by_label.values())

    def lookup_file(self, name: str, source: str, asked: str = "") -> Path | None:
        """Return a file of those that a host was armed with; None if it is not for who asks.

        Args:
            name: of the file.
            source: IP address that asks.
            asked: the server's address that it asks at, "" if it is not known.
        """
        card = self._neighbour(source)
        with self._lock:
            for mac, entry in self._by_mac.items():
                if entry.may_ask(source, asked) and card in ("", mac):
                    return entry.files.get(name)
        return None

    def _find(self, label: str) -> _Entry:
        entry = self._by_label.get(label)
        if entry is None:
            raise UnknownHostError(f"no host is called {label}", fix="zfsiscsi hosts")
        return entry

    def lookup_by_dhcp(self, mac: str, address: str) -> str | Future[str] | None:
        """Return the script for a host that asks DHCP: it has no address yet to ask from.

        Args:
            mac: of its card.
            address: that it is going to have.
        """
        with self._lock:
            entry = self._by_mac.get(mac)
            is_own = entry is not None and entry.ip == address
            make = partial(entry.make, by_dhcp=True) if entry and entry.make else None
            script = make or entry.script if entry and is_own else None
        try:
            return script() if callable(script) else script
        except BootRefusedError:
            return None

    def lookup(self, mac: str, source: str, asked: str = "") -> str | Future[str] | None:
        """Return the script for who asks; None, with the reason in the log, if it gets none.

        What has to be found out, or made, first: what is done when there is one.

        Args:
            mac: as it says itself, in any usual notation.
            source: IP address that it asks from.
            asked: the server's address that it asks at, "" if it is not known.
        """
        at = self._clock.monotonic()
        card = self._neighbour(source)
        with self._lock:
            entry = self._by_mac.get(normalize(mac))
            is_own = entry and entry.may_ask(source, asked) and card in ("", normalize(mac))
            script = entry.make or entry.script if entry and is_own else None
        if entry is None or script is None:
            why = _why(entry, mac, source, card, asked)
            if entry and is_own:
                self._on_event(entry.label, "unarmed", at)
        else:
            try:
                found = script() if callable(script) else script
            except BootRefusedError as error:
                why = error.what
            else:
                self._tell_when_given(entry.label, at, found)
                return found
        self.offences.tell(card or source, f"gets no boot script for {mac[:40]!r}: {why}")
        return None

    def _tell_when_given(self, label: str, at: float, script: str | Future[str]) -> None:
        def tell(given: Future[str]) -> None:
            if not given.cancelled() and given.exception() is None:
                self._on_event(label, "script", at)

        if isinstance(script, str):
            self._on_event(label, "script", at)
        else:
            script.add_done_callback(tell)


def normalize(mac: str) -> str:
    """Return a MAC address as the configuration has it, or "" if it is none of a network card."""
    try:
        return parse_mac(mac)
    except WrongValueError:
        return ""


def _why(entry: _Entry | None, mac: str, source: str, card: str, asked: str) -> str:
    if entry is None:
        return "no host has this MAC address" if normalize(mac) else "that is no MAC address"
    if entry.ip != source:
        return f"{entry.label} has the address {entry.ip}"
    if card not in ("", normalize(mac)):
        return f"it has taken the address of {entry.label}, {source}"
    if not entry.may_ask(source, asked):
        return f"it asked at {asked}, and the network of {entry.label} is that of {entry.listener}"
    return f"{entry.label} is not armed"

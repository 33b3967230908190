"""What a host itself shows of its power: signs of life, and the first sign of a boot."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Protocol

from cuckoo_zfsiscsi.at_once import at_once
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import CancelledError, PowerError
from cuckoo_zfsiscsi.power import signs
from cuckoo_zfsiscsi.readiness.lookup import find_probe

if TYPE_CHECKING:
    from collections.abc import Callable

    from cuckoo_zfsiscsi.config import Config, HostConfig

LOOK = 0.4
"""Seconds in which a host that lives answers."""
LINGER = 1.0
"""Seconds after a cut in which capacitors keep a host alive, and its last packets arrive."""
WORDS = {
    "arp": "it answers ARP",
    "icmp": "it answers ping",
    "rpc": "its RPC answers",
    "agent": "its agent answers",
    "session": "its iSCSI session goes on",
}


class Witness(Protocol):
    """Sees one host from outside."""

    def life(self, since: float, *, deadline: Deadline) -> str:
        """Look once for signs of life.

        Args:
            since: monotonic seconds; older traffic does not count.
            deadline: for the look.

        Returns:
            The sign, for people; "" if there is none.

        Raises:
            PowerError: it can't be looked for.
            DeadlineExceededError, CancelledError: the look was not finished.
        """
        ...

    def boot(self, since: float) -> str:
        """Return the first sign of a boot after this moment (monotonic seconds), or ""."""
        ...


class Nobody:
    """A witness who sees nothing, where the power device's word alone counts."""

    def life(self, since: float, *, deadline: Deadline) -> str:
        """As Witness has it."""
        deadline.check(f"a look since {since}")
        return ""

    def boot(self, since: float) -> str:  # noqa: ARG002 - sees nothing
        """As Witness has it."""
        return ""


class HostWitness:
    """Implements Witness, as the host's section has it."""

    def __init__(self, config: Config, host: HostConfig) -> None:
        self._host = host
        self._network = config.network_of(host)
        self._port = config.portal_port_of(host)
        self._lock = threading.Lock()
        self._booted: tuple[float, str] = (float("-inf"), "")

    def note(self, stage: str, at: float) -> None:
        """Record that a server saw the host at a stage of its boot (monotonic seconds)."""
        with self._lock:
            self._booted = (at, stage)

    def boot(self, since: float) -> str:
        """As Witness has it."""
        with self._lock:
            at, stage = self._booted
        return f"{stage} request" if at > since else ""

    def life(self, since: float, *, deadline: Deadline) -> str:
        """As Witness has it. All kinds at the same time."""
        deadline.check(f"a look at {self._host.label}")
        kinds = self._host.power_signs
        calls = [self._look(kind, since, deadline) for kind in kinds]
        looks = zip(kinds, at_once(calls, deadline.clock, "sign"), strict=True)
        seen = [kind for kind, look in looks if self._result(kind, look)]
        deadline.check(f"a look at {self._host.label}")
        return WORDS[seen[0]] if seen else ""

    def _result(self, kind: str, look: Future[bool]) -> bool:
        try:
            return look.result()
        except OSError as error:
            raise PowerError(
                f"{self._host.label}: {kind} can't be looked for: {error.strerror or error}",
                fix=f"as root? is {self._network.interface} up? or change power_signs",
            ) from None

    def _look(self, kind: str, since: float, deadline: Deadline) -> Callable[[], bool]:
        host, network = self._host, self._network
        if kind == "arp":
            own = network.address.ip
            return lambda: signs.answers_arp(network.interface, own, host.ip, LOOK)
        if kind == "icmp":
            return lambda: signs.answers_ping(host.ip, LOOK)
        if kind == "session":
            age = deadline.clock.monotonic() - since - LINGER
            return lambda: age > 0 and signs.heard_by_tcp(host.ip, self._port, age)
        port = {"rpc": host.rpc_port, "agent": host.agent_port}[kind]
        probe = find_probe(kind)

        def ask() -> bool:
            try:
                return probe(str(host.ip), port, deadline=deadline.within(LOOK)).heard
            except CancelledError:  # told by the caller
                return False

        return ask

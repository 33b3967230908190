"""Has hosts that run try to reach each other, and remembers what came of it for each network."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from functools import partial

from cuckoo_zfsiscsi.at_once import at_once
from cuckoo_zfsiscsi.clock import SYSTEM
from cuckoo_zfsiscsi.config import Config, HostConfig, Network
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import ConfigError, DiskError, NotReadyError
from cuckoo_zfsiscsi.isolation import Attempt, NetworkIsolation, judge
from cuckoo_zfsiscsi.isolation.guest import MOST, Peer, command, parse, peer_of
from cuckoo_zfsiscsi.readiness import agent
from cuckoo_zfsiscsi.readiness.stream import GuestError
from cuckoo_zfsiscsi.service.history import History

SERVER = "this server"
"""Whom every guest must reach, or its silence shows nothing."""

log = logging.getLogger(__name__)


class IsolationLook:
    """What is known of every network. Safe from any thread.

    Args:
        config: of the service.
        history: where attempts are on record.
    """

    def __init__(self, config: Config, history: History) -> None:
        self._config = config
        self._history = history
        self._lock = threading.Lock()
        self._tried: dict[tuple[str, str], Attempt] = {}

    def load(self) -> None:
        """Begin with what an earlier service left on record, as far as it can be read. Waits."""
        try:
            self._take(self._history.attempts())
        except DiskError as error:
            log.warning("%s", error)

    def report(self) -> list[NetworkIsolation]:
        """Return what is known of each network that has hosts."""
        with self._lock:
            tried = list(self._tried.values())
        members = {net.name: self._members(net) for net in self._config.networks}
        return [
            judge(name, [host.label for host in hosts], tried)
            for name, hosts in members.items()
            if hosts
        ]

    def prove(self, name: str, labels: Sequence[str], deadline: Deadline) -> list[Attempt]:
        """Have these hosts reach for each other, all at the same time. Each must run, clean.

        Args:
            name: of their network.
            labels: of two hosts or more.
            deadline: for all of it.

        Raises:
            ConfigError: no such network, or the hosts are not in it.
            NotReadyError: one does not answer, or reaches nothing at all.
            DeadlineExceededError, CancelledError: not done.
        """
        network = next((net for net in self._config.networks if net.name == name), None)
        hosts = [host for host in self._members(network) if host.label in labels] if network else []
        if network is None or len(hosts) < max(2, len(set(labels))):
            raise ConfigError(
                f"{', '.join(labels)}: not two or more hosts of one network {name}",
                fix="zfsiscsi netboot isolation --show",
            )
        calls = [partial(self._try, network, host, hosts, deadline) for host in hosts]
        answers = at_once(calls, SYSTEM, "isolation")
        found = [attempt for answer in answers for attempt in answer.result()]
        for host in hosts:  # who was not there was not reached by anybody
            _see(host, deadline)
        self._take(found)
        self._history.tell_attempts(found)
        return found

    def _try(
        self, network: Network, host: HostConfig, hosts: Sequence[HostConfig], deadline: Deadline
    ) -> list[Attempt]:
        """Have one host reach for the others, and for this server."""
        own = Peer(SERVER, network.address.ip, "", (self._config.netboot.boot_port,))
        others = [peer_of(other) for other in hosts if other is not host]
        reached: dict[str, str] = {}
        for first in range(0, len(others), MOST):
            peers = [own, *others[first : first + MOST]]
            argv = command(host.platform, peers)
            try:
                said = agent.execute(str(host.ip), host.agent_port, argv, deadline=deadline)
            except GuestError as error:
                raise _silent(host, str(error)) from None
            reached |= parse(said.stdout, peers)
            if not reached[SERVER]:
                raise NotReadyError(
                    f"{host.label} reaches nothing, not even the boot listener of this server",
                    fix="zfsiscsi doctor; is a firewall in the guest?",
                )
        at = time.time()
        return [Attempt(host.label, one.name, reached[one.name], at) for one in others]

    def _take(self, attempts: Sequence[Attempt]) -> None:
        with self._lock:
            self._tried |= {(one.source, one.target): one for one in attempts}

    def _members(self, network: Network) -> list[HostConfig]:
        return [host for host in self._config.hosts if host.network == network.name]


def _see(host: HostConfig, deadline: Deadline) -> None:
    answer = agent.probe(str(host.ip), host.agent_port, deadline=deadline)
    if not answer.ok:
        raise _silent(host, answer.detail)


def _silent(host: HostConfig, why: str) -> NotReadyError:
    return NotReadyError(
        f"the agent of {host.label} does not answer: {why}", fix=f"zfsiscsi probe {host.label}"
    )

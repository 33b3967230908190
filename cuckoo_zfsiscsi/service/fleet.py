"""All hosts of one service, and what they share: store, target, DHCP, boot scripts."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from cuckoo_zfsiscsi.config import Config, HostConfig
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.drivers import make_store, make_target
from cuckoo_zfsiscsi.errors import UnknownHostError, ZfsIscsiError
from cuckoo_zfsiscsi.netboot.boots import Boots
from cuckoo_zfsiscsi.netboot.dnsmasq import Dnsmasq
from cuckoo_zfsiscsi.power.connect import make_power
from cuckoo_zfsiscsi.readiness.lookup import find_probe
from cuckoo_zfsiscsi.service.boot import Parts, Probe
from cuckoo_zfsiscsi.service.host import Host

log = logging.getLogger(__name__)

OPEN_TIMEOUT = 30.0
"""Seconds in which target and DHCP must be up."""
BACKGROUND_THREADS = 2
"""Spares are made by so few at once: more would only make the disks seek."""


class Fleet:
    """Opens and closes everything in order; finds a host by label or MAC."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.boots = Boots(config.hosts, on_event=self._note)
        self._store = make_store(config)
        self._target = make_target(config)
        self._dhcp = Dnsmasq(config, on_event=self._note)
        self._pool = ThreadPoolExecutor(BACKGROUND_THREADS, thread_name_prefix="background")
        self._opened = ExitStack()
        self._hosts = {host.label: self._make_host(host) for host in config.hosts}

    def open(self) -> None:
        """Take store, target and DHCP; then let every host prove itself again.

        Raises:
            DiskError, TargetError, NetbootError: what can't be had, and all is closed again.
        """
        deadline = Deadline(OPEN_TIMEOUT)
        with ExitStack() as stack:
            self._store.open()
            stack.callback(self._store.close)
            self._target.open(deadline=deadline)
            stack.callback(self._target.close)
            self._dhcp.open(deadline)
            stack.callback(self._dhcp.close)
            stack.callback(self._pool.shutdown, cancel_futures=True)
            self._opened = stack.pop_all()
        for host in self._hosts.values():
            host.open()

    def mend(self) -> None:
        """Start DHCP again if it has died: without it no host boots any more."""
        if self._dhcp.alive():
            return
        log.error("DHCP has died, it is started again")
        try:
            self._dhcp.open(Deadline(OPEN_TIMEOUT))
        except ZfsIscsiError as error:
            log.error("DHCP can't be started: %s", error)

    def close(self) -> None:
        """Cut the power of every host, all at once; then let go of DHCP, target and store."""
        for host in self._hosts.values():
            host.close()
        deadline = Deadline(self.config.zfsiscsi.stop_timeout)
        for label, host in self._hosts.items():
            if not host.join(deadline):
                log.error("%s: power is not proved off at the service's end", label)
        self._opened.close()

    def hosts(self) -> list[Host]:
        """Every host, in the order of the configuration."""
        return list(self._hosts.values())

    def host(self, label: str) -> Host:
        """Return one host.

        Raises:
            UnknownHostError: no host has this label.
        """
        try:
            return self._hosts[label]
        except KeyError:
            raise UnknownHostError(
                f"no host {label!r} is configured", fix="zfsiscsi hosts"
            ) from None

    def _make_host(self, config: HostConfig) -> Host:
        parts = Parts(
            store=self._store,
            target=self._target,
            power=make_power(config),
            boots=self.boots,
            probes={name: self._make_probe(name, config) for name in config.ready},
        )
        return Host(config, parts, self._in_background)

    @staticmethod
    def _make_probe(name: str, config: HostConfig) -> Probe:
        port = {"rpc": config.rpc_port, "agent": config.agent_port}[name]
        probe = find_probe(name)
        address = str(config.ip)
        return lambda deadline: probe(address, port, deadline=deadline)

    def _in_background(self, job: Callable[[], None]) -> None:
        def logged() -> None:
            try:
                job()
            except Exception:
                log.exception("in the background")

        self._pool.submit(logged)

    def _note(self, label: str, stage: str, at: float) -> None:
        self._hosts[label].note(stage, at)

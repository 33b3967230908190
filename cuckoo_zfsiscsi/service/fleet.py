"""All hosts of one service, and what they share: store, target, DHCP, boot scripts."""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial

from cuckoo_zfsiscsi.config import Config, HostConfig, Network
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.drivers import make_store, make_target
from cuckoo_zfsiscsi.errors import DiskError, UnknownHostError, ZfsIscsiError
from cuckoo_zfsiscsi.netboot import flows
from cuckoo_zfsiscsi.netboot.boots import Boots
from cuckoo_zfsiscsi.netboot.drivers import make_netboot, tftp_folder
from cuckoo_zfsiscsi.netboot.medium import place
from cuckoo_zfsiscsi.netboot.server import Netboot
from cuckoo_zfsiscsi.netboot.watch import Watch
from cuckoo_zfsiscsi.power.connect import make_power, make_witness
from cuckoo_zfsiscsi.power.witness import HostWitness
from cuckoo_zfsiscsi.readiness.lookup import find_probe
from cuckoo_zfsiscsi.service.default_route import by_agent
from cuckoo_zfsiscsi.service.events import Everyone
from cuckoo_zfsiscsi.service.history import History
from cuckoo_zfsiscsi.service.host import Host
from cuckoo_zfsiscsi.service.isolation import IsolationLook
from cuckoo_zfsiscsi.service.metrics import Metrics
from cuckoo_zfsiscsi.service.pace import Pace
from cuckoo_zfsiscsi.service.paper import PaperHost
from cuckoo_zfsiscsi.service.parts import Parts, Probe, Tell
from cuckoo_zfsiscsi.service.recent import Recent
from cuckoo_zfsiscsi.service.recorded import RecordedPower
from cuckoo_zfsiscsi.service.reload import check_change
from cuckoo_zfsiscsi.service.storage import StorageLook

log = logging.getLogger(__name__)

OPEN_TIMEOUT = 30.0
"""Seconds in which target and DHCP must be up."""
HISTORY = "runs.sqlite"
"""In the store's folder; with store = zfs too, where it is all that is there."""
BACKGROUND_THREADS = 2
"""Spares are made by so few at once: more would only make the disks seek."""


class Fleet:
    """Opens and closes everything in order; finds a host by label or MAC."""

    def __init__(self, config: Config) -> None:
        self.config = config
        listeners = {h.label: str(config.network_of(h).address.ip) for h in config.hosts}
        self.boots = Boots(config.hosts, on_event=self._note, listeners=listeners)
        self.history = History(config.storage.path / HISTORY)
        labels = [host.label for host in config.hosts]
        self.recent = Recent(labels)
        self._store = make_store(config)
        self.storage = StorageLook(config.storage, self._store, labels)
        self.isolation = IsolationLook(config, self.history)
        self.metrics = Metrics(
            lambda: [host.report() for host in self.hosts()],
            self.storage.report,
            self.isolation.report,
        )
        self._events = Everyone([self.history, self.recent, self.metrics])
        self._target = make_target(config)
        self._dhcp = self._make_netboot(config)
        self._netboot_lock = threading.Lock()
        self._watches = [self._make_watch(network) for network in config.networks]
        self._pool = ThreadPoolExecutor(BACKGROUND_THREADS, thread_name_prefix="background")
        self._opened = ExitStack()
        self._pace = Pace()
        self._witnesses: dict[str, HostWitness] = {}
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
            shutil.rmtree(place(self.config), ignore_errors=True)  # of installations that we ended
            self._target.open(deadline=deadline)
            stack.callback(self._target.close)
            self._dhcp.open(deadline)
            stack.callback(lambda: self._dhcp.close())  # the one that it is by then
            for watch in self._watches:
                watch.open()
                stack.callback(watch.close)
            stack.callback(self._pool.shutdown, cancel_futures=True)
            stack.callback(self.history.close)
            self.recent.load(self.history)
            self.isolation.load()
            self._recall()
            self._opened = stack.pop_all()
        for host in self._hosts.values():
            host.open()

    def _recall(self) -> None:
        """Have hosts tell of their last runs, as far as those are on record: CAPE may yet ask."""
        try:
            last = self.history.recall()
        except DiskError as error:
            log.warning("%s", error)
            return
        for label, host in self._hosts.items():
            host.recall(last.get(label, []))

    def mend(self) -> None:
        """Start DHCP again if it has died: without it no host boots any more."""
        with self._netboot_lock:
            if self._dhcp.alive():
                return
            log.error("DHCP has died, it is started again")
            try:
                self._dhcp.open(Deadline(OPEN_TIMEOUT))
            except ZfsIscsiError as error:
                log.error("DHCP can't be started: %s", error)

    def reload(self, config: Config) -> bool:
        """Take what has changed in the ways to iPXE; return whether something has.

        DHCP is silent for a moment, which clients bridge by asking again; no lease is lost.

        Raises:
            ServeError: something else has changed, nothing was taken.
            NetbootError, DeadlineExceededError: DHCP does not start so; it runs as before.
        """
        changes = check_change(self.config, config)
        if not changes:
            return False
        with self._netboot_lock:
            before, self._dhcp = self._dhcp, self._make_netboot(config)
            before.close()
            try:
                self._dhcp.open(Deadline(OPEN_TIMEOUT))
            except ZfsIscsiError:
                self._dhcp.close()
                self._dhcp = before
                before.open(Deadline(OPEN_TIMEOUT))
                raise
            self.config = config
        log.info("reloaded: %s", "; ".join(changes))
        return True

    def close(self) -> None:
        """Cut the power of every host, all at once; then let go of DHCP, target and store."""
        for host in self._hosts.values():
            host.close()
        deadline = Deadline(self.config.zfsiscsi.stop_timeout)
        for label, host in self._hosts.items():
            if not host.join(deadline):
                log.error("%s: power is not proved off at the service's end", label)
        self._opened.close()

    def hosts(self) -> list[Host | PaperHost]:
        """Every host, in the order of the configuration."""
        return list(self._hosts.values())

    def host(self, label: str) -> Host | PaperHost:
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

    def _make_netboot(self, config: Config) -> Netboot:
        return make_netboot(config, self._note, self.boots.lookup_by_dhcp)

    def _make_watch(self, network: Network) -> Watch:
        elsewhere = {
            host.mac: self.config.network_of(host).interface
            for host in self.config.hosts
            if host.network != network.name
        }
        return Watch(
            network.interface, lambda: tftp_folder(self.config), self.boots.offences, elsewhere
        )

    def _make_host(self, config: HostConfig) -> Host | PaperHost:
        witness = make_witness(self.config, config)
        if isinstance(witness, HostWitness):
            self._witnesses[config.label] = witness
        parts = Parts(
            store=self._store,
            target=self._target,
            power=RecordedPower(config.label, make_power(config, witness), self._events),
            boots=self.boots,
            probes={name: self._make_probe(name, config) for name in config.ready},
            default_route=self._make_default_route(config),
            delete_flows=partial(flows.delete, config, self.config.default_route(config).gateway),
            runs=self.history,
            events=self._events,
            pace=self._pace,
        )
        if config.reset_on == "start":
            return Host(config, parts, self._in_background)
        paper = PaperHost(config, parts, self._in_background, self.config)
        self.boots.make_when_asked(config.label, paper.ask)
        return paper

    @staticmethod
    def _make_probe(name: str, config: HostConfig) -> Probe:
        port = {"rpc": config.rpc_port, "agent": config.agent_port}[name]
        probe = find_probe(name)
        address = str(config.ip)
        return lambda deadline: probe(address, port, deadline=deadline)

    def _make_default_route(self, config: HostConfig) -> Tell | None:
        if config.network_via != "agent":
            return None
        return partial(by_agent, config, self.config.default_route(config))

    def _in_background(self, job: Callable[[], None]) -> None:
        def logged() -> None:
            try:
                job()
            except Exception:
                log.exception("in the background")

        self._pool.submit(logged)

    def _note(self, label: str, stage: str, at: float) -> None:
        if label in self._witnesses:
            self._witnesses[label].note(stage, at)
        self._hosts[label].note(stage, at)

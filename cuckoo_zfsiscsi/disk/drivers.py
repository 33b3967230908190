"""Chooses the store and the target that the configuration names. A new driver = one line here."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address

from cuckoo_zfsiscsi.config import Config
from cuckoo_zfsiscsi.disk.store import Store
from cuckoo_zfsiscsi.disk.store.file import FileStore
from cuckoo_zfsiscsi.disk.store.zfs import ZfsStore
from cuckoo_zfsiscsi.disk.store.zfs_rules import HostRules, Rules
from cuckoo_zfsiscsi.disk.target import Target
from cuckoo_zfsiscsi.disk.target.identity import Identity
from cuckoo_zfsiscsi.disk.target.lio import LioTarget
from cuckoo_zfsiscsi.disk.target.tgt import TgtTarget


def _file(config: Config) -> FileStore:
    return FileStore(config.storage.path)


def _zfs(config: Config) -> ZfsStore:
    storage = config.storage
    hosts = {host.label: HostRules(host.spares, host.evidence) for host in config.hosts}
    rules = Rules(hosts, storage.pool_free, storage.evidence_days, storage.evidence_gib)
    return ZfsStore(storage.pool or "", rules)


def _portals(config: Config) -> dict[str, IPv4Address]:
    """Return where each host finds its disk, by label."""
    return {host.label: config.network_of(host).portal_ip for host in config.hosts}


def _ports(config: Config) -> dict[str, int]:
    """Return the TCP port of it, by label: each host has one of its own."""
    return {host.label: config.portal_port_of(host) for host in config.hosts}


def _tgt(config: Config) -> TgtTarget:
    storage = config.storage
    return TgtTarget(
        portal=storage.portal,
        portals=_portals(config),
        port=storage.portal_port,
        ports=_ports(config),
        iqn=storage.iqn,
        run_dir=config.zfsiscsi.run_dir,
        identities={host.label: Identity.of(host) for host in config.hosts},
    )


def _lio(config: Config) -> LioTarget:
    storage = config.storage
    return LioTarget(
        portal=storage.portal,
        portals=_portals(config),
        port=storage.portal_port,
        ports=_ports(config),
        iqn=storage.iqn,
        identities={host.label: Identity.of(host) for host in config.hosts},
        addresses={host.label: host.ip for host in config.hosts},
    )


STORES: dict[str, Callable[[Config], Store]] = {"file": _file, "zfs": _zfs}
"""By the value of `store` in [storage]."""

TARGETS: dict[str, Callable[[Config], Target]] = {"tgt": _tgt, "lio": _lio}
"""By the value of `target` in [storage]."""


def make_store(config: Config) -> Store:
    """Return the store, not open yet."""
    return STORES[config.storage.store](config)


def make_target(config: Config) -> Target:
    """Return the target, not open yet."""
    return TARGETS[config.storage.target](config)

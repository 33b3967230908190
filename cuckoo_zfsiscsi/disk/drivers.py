"""Chooses the store and the target that the configuration names. A new driver = one line here."""

from __future__ import annotations

from collections.abc import Callable

from cuckoo_zfsiscsi.config import Config
from cuckoo_zfsiscsi.disk.store.file import FileStore
from cuckoo_zfsiscsi.disk.target import Target
from cuckoo_zfsiscsi.disk.target.tgt import TgtTarget


def _file(config: Config) -> FileStore:
    return FileStore(config.storage.path)


def _tgt(config: Config) -> TgtTarget:
    storage = config.storage
    return TgtTarget(
        portal=storage.portal,
        port=storage.portal_port,
        iqn=storage.iqn,
        run_dir=config.zfsiscsi.run_dir,
    )


STORES: dict[str, Callable[[Config], FileStore]] = {"file": _file}
"""By the value of `store` in [storage]."""

TARGETS: dict[str, Callable[[Config], Target]] = {"tgt": _tgt}
"""By the value of `target` in [storage]."""


def make_store(config: Config) -> FileStore:
    """Return the store, not open yet."""
    return STORES[config.storage.store](config)


def make_target(config: Config) -> Target:
    """Return the target, not open yet."""
    return TARGETS[config.storage.target](config)

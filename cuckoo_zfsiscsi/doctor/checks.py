"""Which checks there are, and which of them concern a configuration."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from cuckoo_zfsiscsi.check import Finding, failed
from cuckoo_zfsiscsi.config import Config
from cuckoo_zfsiscsi.doctor.clock import check_clock
from cuckoo_zfsiscsi.doctor.datasets import check_datasets
from cuckoo_zfsiscsi.doctor.disks import check_disks
from cuckoo_zfsiscsi.doctor.firewall import check_firewall
from cuckoo_zfsiscsi.doctor.kernel import (
    check_configfs,
    check_modules,
    check_priority,
    check_tracefs,
    check_versions,
)
from cuckoo_zfsiscsi.doctor.lvm import check_lvm
from cuckoo_zfsiscsi.doctor.memory import check_memory
from cuckoo_zfsiscsi.doctor.nic import check_nic
from cuckoo_zfsiscsi.doctor.others import check_others
from cuckoo_zfsiscsi.doctor.pool import check_pool
from cuckoo_zfsiscsi.doctor.ports import check_ports
from cuckoo_zfsiscsi.doctor.python import check_python
from cuckoo_zfsiscsi.doctor.space import check_space
from cuckoo_zfsiscsi.doctor.system import System
from cuckoo_zfsiscsi.doctor.unit import check_unit
from cuckoo_zfsiscsi.errors import ZfsIscsiError


class Check(NamedTuple):
    """One look at one thing."""

    name: str
    look: Callable[[Config, System], Iterator[Finding]]
    needs: str = ""
    """The store or target that it is for; every server if empty."""


CHECKS = (
    Check("kernel modules", check_modules, "zfs"),
    Check("configfs", check_configfs, "lio"),
    Check("tracefs", check_tracefs, "lio"),
    Check("ZFS' version", check_versions, "zfs"),
    Check("ZFS' threads", check_priority, "zfs"),
    Check("Python's modules", check_python, "zfs"),
    Check("pool", check_pool, "zfs"),
    Check("the pool's disks", check_disks, "zfs"),
    Check("datasets", check_datasets, "zfs"),
    Check("LVM", check_lvm, "zfs"),
    Check("memory", check_memory),
    Check("time", check_clock),
    Check("network card", check_nic),
    Check("ports", check_ports),
    Check("firewall", check_firewall),
    Check("other services", check_others),
    Check("space", check_space),
    Check("systemd unit", check_unit),
)
"""What others depend on comes first. store = zfs always goes with target = lio."""


def chosen(config: Config) -> list[Check]:
    """Return the checks that concern the configured store and target."""
    storage = config.storage
    return [check for check in CHECKS if check.needs in ("", storage.store, storage.target)]


def look(check: Check, config: Config, system: System) -> Iterator[Finding]:
    """Run one check; a command that is stuck ends this check alone."""
    try:
        yield from check.look(config, system)
    except ZfsIscsiError as error:
        yield failed(check.name, error, fix="dmesg | tail -50")


def about(config: Config, system: System) -> Iterator[Finding]:
    """Say what is not looked at, and why."""
    skipped = [check.name for check in CHECKS if check not in chosen(config)]
    if skipped:
        storage = config.storage
        what = f"not looked at: {', '.join(skipped)}"
        where = f"[storage] store = {storage.store}, target = {storage.target}"
        yield Finding("info", where, what, "store = zfs in [storage], for those")
    if not system.is_root:
        what = "not run as root: some things can't be seen, and are missing or wrong below"
        yield Finding("warning", "zfsiscsi doctor", what, "sudo zfsiscsi doctor")

"""Reckons whether the store has room for all that the hosts may write at the same time."""

from __future__ import annotations

from collections.abc import Iterator

from cuckoo_zfsiscsi.check import Finding, failed
from cuckoo_zfsiscsi.config import Config
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.store import Store
from cuckoo_zfsiscsi.disk.store.file_room import GIB, LEAST
from cuckoo_zfsiscsi.disk.store.zfs import ZfsStore
from cuckoo_zfsiscsi.disk.store.zfs_rooms import Division
from cuckoo_zfsiscsi.errors import ImageError, ZfsIscsiError

TIMEOUT = 10.0


def check_room(config: Config, store: Store) -> Iterator[Finding]:
    """Look how much there is for each run. The store need not be open."""
    run = config.storage.run_gib
    where = "[storage] run_gib" + ("" if run is None else f" = {run}")
    try:
        if isinstance(store, ZfsStore):
            yield _of_pool(where, store.rooms.reckon(deadline=Deadline(TIMEOUT)), config)
        elif len(config.hosts) > 1:
            yield _of_files(where, store, config)
    except ZfsIscsiError as error:
        yield failed(where, error, fix="zfsiscsi doctor")


def _of_pool(where: str, division: Division, config: Config) -> Finding:
    hosts = len(config.hosts)
    sure = f"each run of {hosts} hosts is sure of {division.sure / 1e9:.1f} GB to write"
    fix = "delete images, have fewer hosts, or add disks to the pool (docs/storage.rst)"
    if not division.is_enough:
        what = f"{sure}, and {division.least / 1e9:.1f} GB is the least: no host is armed"
        return Finding("error", where, what, fix)
    if division.is_overcommitted:
        what = f"{sure}, but may write {division.run / 1e9:.1f} GB: some may fail for others' sake"
        return Finding("warning", where, what, f"run_gib = {division.sure // GIB}, or {fix}")
    return Finding("ok", where, f"{sure}, whatever the others write")


def _of_files(where: str, store: Store, config: Config) -> Finding:
    """Reckon with disks of which nothing is written, on a file system as full as it is now."""
    sizes = [size for host in config.hosts if (size := _size(store, host.snapshot))]
    free, worst = store.space(deadline=Deadline(TIMEOUT)).free, sum(sizes)
    run = (config.storage.run_gib or 0) * GIB or LEAST
    reckoned = sum(min(run, size) for size in sizes)
    have = f"{free / 1e9:.1f} GB are free"
    fix = "a larger file system, fewer hosts, or store = zfs, which has a limit for each host"
    if reckoned > free:
        what = f"{have}, and {len(sizes)} hosts need {reckoned / 1e9:.1f} GB: not all can be armed"
        return Finding("error", where, what, fix)
    if reckoned < worst:
        what = f"{have} and the disks of {len(sizes)} hosts hold {worst / 1e9:.1f} GB"
        if worst > free:
            what += ": a guest that fills its own may end the runs of others"
            return Finding("warning", where, what, fix)
        fix = f"run_gib = {-(-max(sizes) // GIB)}: then no host is armed without room for all"
        return Finding("info", where, f"{what}, which nothing promises", fix)
    return Finding("ok", where, f"{have}, enough for every disk to be filled")


def _size(store: Store, image: str) -> int:
    """Return the size of an image; 0 when there is none, as another check says."""
    try:
        return store.find_image(image).size
    except ImageError:
        return 0

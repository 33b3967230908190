"""Volumes that are filled with an image, and not yet a version of it."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from pathlib import Path

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.store import zfs_device as device
from cuckoo_zfsiscsi.disk.store.zfs_call import Zfs
from cuckoo_zfsiscsi.disk.store.zfs_drop import LOOK, drop, left_behind
from cuckoo_zfsiscsi.disk.store.zfs_layout import ROLE, Layout
from cuckoo_zfsiscsi.disk.store.zfs_lease import catalogue_lock
from cuckoo_zfsiscsi.errors import DiskError

BLOCK = 16384
"""volblocksize, bytes: small enough for random writes, large enough to compress."""
_DROP_TIMEOUT = 30.0


class Imports:
    """Of one store."""

    def __init__(self, layout: Layout, zfs: Zfs) -> None:
        self._layout = layout
        self._zfs = zfs

    @contextlib.contextmanager
    def volume(self, size: int, deadline: Deadline) -> Iterator[tuple[str, Path]]:
        """Make a volume to fill, ours by its claim: tidy() removes those that nobody has."""
        dataset = f"{self._layout.imports}/{secrets.token_hex(8)}"
        with contextlib.ExitStack() as stack:
            with catalogue_lock(self._layout, deadline):
                self.tidy(deadline)
                self._zfs.create_volume(dataset, size, BLOCK, {ROLE: "import"}, deadline=deadline)
                stack.callback(self._drop_quietly, dataset)
                path = device.wait_for(dataset, deadline)
                patience = deadline.within(device.CLAIM_TIMEOUT)
                stack.enter_context(device.claimed(path, dataset, patience))
            yield dataset, path

    def _drop_quietly(self, dataset: str) -> None:
        """Remove what was not adopted; what was has another name."""
        with contextlib.suppress(DiskError):
            drop(self._zfs, dataset, deadline=Deadline(_DROP_TIMEOUT))

    def tidy(self, deadline: Deadline) -> None:
        """Drop half-made imports that nobody is at. With the catalogue's lock held."""
        program = """
            local argv = ...
            local found = {}
            for dataset in zfs.list.children(argv["argv"][1]) do found[dataset] = true end
            return found
        """
        for dataset in self._zfs.read(program, [self._layout.imports], deadline=deadline):
            with left_behind(dataset):  # someone may be filling it
                drop(self._zfs, dataset, deadline=deadline.within(LOOK))

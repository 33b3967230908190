"""Reset and arm: the only ways from a dirty disk to one that may boot.

The order is the point: fence, swap, prove; then, to boot, prove again, taint, export. Power must be
proved off before either is called.
"""

from __future__ import annotations

import secrets
import string
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.store import Disk, Store
from cuckoo_zfsiscsi.disk.target import Credentials, Export, Target

T = TypeVar("T")

SECRET_LENGTH = 16
"""Characters: what Windows' initiator takes at most, and 95 bits."""


@dataclass(frozen=True, slots=True)
class Reset:
    """A reset that succeeded."""

    disk: Disk
    seconds: dict[str, float]
    """How long each step took: fence, swap, prove."""


def reset(store: Store, target: Target, host: str, image: str, *, deadline: Deadline) -> Reset:
    """Give the host a clean disk that is not yet exported.

    Raises:
        TargetError: the old disk could not be fenced; it stays in place.
        ImageError, StoreFullError: there is no clean disk to be had.
        UnprovenDiskError: the new disk is not what it should be.
        DeadlineExceededError, CancelledError: given up.
    """
    seconds: dict[str, float] = {}
    _timed(seconds, "fence", lambda: target.fence(host, deadline=deadline))
    disk = _timed(seconds, "swap", lambda: store.swap(host, image, deadline=deadline))
    _timed(seconds, "prove", lambda: store.prove(disk, deadline=deadline))
    return Reset(disk, seconds)


def arm(store: Store, target: Target, base_iqn: str, disk: Disk, *, deadline: Deadline) -> Export:
    """Export a proven disk to its host, with credentials that were never used before.

    Raises:
        UnprovenDiskError: the disk is no longer what was proven; it is not exported.
        TargetError: the target refused.
        DeadlineExceededError, CancelledError: given up.
    """
    store.prove(disk, deadline=deadline)
    # From here on the guest may write: whatever happens next, this disk is never clean again.
    store.taint(disk)
    return target.export(disk, _new_credentials(base_iqn, disk), deadline=deadline)


def _new_credentials(base_iqn: str, disk: Disk) -> Credentials:
    alphabet = string.ascii_letters + string.digits
    return Credentials(
        initiator=f"{base_iqn}:{disk.host}.g{disk.generation}",
        user=f"{disk.host}.g{disk.generation}",
        secret="".join(secrets.choice(alphabet) for _ in range(SECRET_LENGTH)),
    )


def _timed(seconds: dict[str, float], step: str, do: Callable[[], T]) -> T:
    begin = time.monotonic()
    result = do()
    seconds[step] = time.monotonic() - begin
    return result

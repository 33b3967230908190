"""The reset of a host's disk, and the arming of a clean one. The order is what makes it safe."""

from __future__ import annotations

import contextlib
import secrets
import string
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.store import Disk, Store
from cuckoo_zfsiscsi.disk.target import Credentials, Export, Target

SECRET_LENGTH = 16  # the most that Windows takes; RFC 7143 wants 12 at least
_ALPHABET = string.ascii_letters + string.digits

OnStep = Callable[[str], None]
"""Called with the name of each step as it begins: fence, swap, prove."""


@dataclass(frozen=True, slots=True)
class Reset:
    """A reset that is done."""

    disk: Disk
    """Clean, proven, not exported."""
    seconds: dict[str, float]
    """How long each step took."""


def reset(
    store: Store,
    target: Target,
    host: str,
    image: str,
    *,
    deadline: Deadline,
    on_step: OnStep = lambda _step: None,
) -> Reset:
    """Put a proven-clean disk in place of the host's dirty one. Power must be proved off.

    Raises:
        TargetError: not fenced: nothing was swapped.
        ImageError, StoreFullError, DiskError: nothing to swap in.
        UnprovenDiskError: the new disk can't be proven clean.
        DeadlineExceededError, CancelledError: not done.
    """
    seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def step(name: str) -> Iterator[None]:
        deadline.check(f"the reset of {host}")
        on_step(name)
        begin = time.monotonic()
        yield
        seconds[name] = time.monotonic() - begin

    with step("fence"):
        target.fence(host, deadline=deadline)
    with step("swap"):
        disk = store.swap(host, image, deadline=deadline)
    with step("prove"):
        store.prove(disk, deadline=deadline)
    return Reset(disk, seconds)


def arm(store: Store, target: Target, disk: Disk, *, deadline: Deadline) -> Export:
    """Allow the host to boot this disk, once: it is exported with credentials of its own.

    It is proven once more, then marked as tainted, then exported: an unproven disk is never
    exported, and an exported one never proven again, wherever a crash comes.

    Raises:
        UnprovenDiskError: it can't be proven clean: nothing is exported.
        DiskError: it can't be marked: nothing is exported.
        TargetError: not exported.
        DeadlineExceededError, CancelledError: not done; fence the host.
    """
    store.prove(disk, deadline=deadline)
    store.taint(disk)
    return target.export(disk, new_credentials(target, disk), deadline=deadline)


def new_credentials(target: Target, disk: Disk) -> Credentials:
    """Return names and a secret that no other generation has: guests can read theirs."""
    secret = "".join(secrets.choice(_ALPHABET) for _ in range(SECRET_LENGTH))
    return Credentials(target.initiator(disk), f"{disk.host}.g{disk.generation}", secret)

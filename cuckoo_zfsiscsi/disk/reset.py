"""The reset of a host's disk, and the arming of a clean one. The order is what makes it safe."""

from __future__ import annotations

import contextlib
import secrets
import string
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.store import Disk, Store
from cuckoo_zfsiscsi.disk.target import Credentials, Export, Target
from cuckoo_zfsiscsi.errors import DiskError

SECRET_LENGTH = 16  # the most that Windows takes; RFC 7143 wants 12 at least
NAME_LENGTH = 12  # of an initiator's random part: 36^12 is more than anyone tries
_ALPHABET = string.ascii_letters + string.digits
_SMALL = string.ascii_lowercase + string.digits  # of names (RFC 3722)

OnStep = Callable[[str], None]
"""Called with the name of each step as it begins: fence, swap or rollback, prove."""


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
    in_place: bool = False,
    deadline: Deadline,
    on_step: OnStep = lambda _step: None,
) -> Reset:
    """Put a proven-clean disk in place of the host's dirty one. Power must be proved off.

    Args:
        store: of the disks.
        target: that exports them.
        host: label.
        image: name or name@version.
        in_place: restore the same disk, as in the paper, instead of swapping in a spare.
        deadline: for all of it.
        on_step: told each step as it begins.

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
        begin = deadline.clock.monotonic()
        yield
        seconds[name] = deadline.clock.monotonic() - begin

    change: Callable[[], Disk] = partial(store.rollback, host, image, deadline=deadline)
    with step("fence"):
        try:
            if not in_place:  # it looks while the fence waits
                change = store.begin_swap(host, image, deadline=deadline)
        finally:
            target.fence(host, deadline=deadline)
    with step("rollback" if in_place else "swap"):
        disk = change()
    with step("prove"):
        store.prove(disk, deadline=deadline)
    return Reset(disk, seconds)


def arm(
    store: Store, target: Target, disk: Disk, *, mutual: bool = False, deadline: Deadline
) -> Export:
    """Allow the host to boot this disk, once: it is exported with credentials of its own.

    It is proven once more, then marked as tainted, then exported: an unproven disk is never
    exported, and an exported one never proven again, wherever a crash comes.

    Args:
        store: of the disk.
        target: that exports it.
        disk: the host's.
        mutual: the target proves itself to the host, too.
        deadline: for all of it.

    Raises:
        UnprovenDiskError: it can't be proven clean: nothing is exported.
        DiskError: it can't be marked: nothing is exported.
        TargetError: not exported.
        DeadlineExceededError, CancelledError: not done; fence the host.
    """
    store.prove(disk, deadline=deadline)
    store.taint(disk)
    return target.export(disk, new_credentials(target, disk, mutual=mutual), deadline=deadline)


def grant(target: Target, draft: Disk, *, mutual: bool = False, deadline: Deadline) -> Export:
    """Allow the host to boot an image's draft: nothing is proven, as its changes are wanted.

    Raises:
        DiskError: it is no draft.
        TargetError: not exported.
    """
    if draft.role != "draft":
        raise DiskError(f"{draft.image} of {draft.host} is no draft: it is armed, or not at all")
    return target.export(draft, new_credentials(target, draft, mutual=mutual), deadline=deadline)


def new_credentials(target: Target, disk: Disk, *, mutual: bool = False) -> Credentials:
    """Return names and secrets that no other generation has: guests can read theirs.

    The initiator's name can't be guessed: a login that was begun under it would keep a fence
    waiting, whoever began it.
    """
    user = f"{disk.host}.g{disk.generation}"
    initiator = f"{target.initiator(disk)}.{_random(_SMALL, NAME_LENGTH)}"
    who = Credentials(initiator, user, _new_secret())
    if mutual:
        return replace(who, reverse_user=f"{user}.target", reverse_secret=_new_secret())
    return who


def _new_secret() -> str:
    return _random(_ALPHABET, SECRET_LENGTH)


def _random(alphabet: str, length: int) -> str:
    return "".join(secrets.choice(alphabet) for _ in range(length))

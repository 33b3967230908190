"""Refusals of ZFS, by errno, as errors of ours."""

from __future__ import annotations

import contextlib
import errno
import os

from cuckoo_zfsiscsi.disk.store.guard import FULL
from cuckoo_zfsiscsi.errors import DiskError, StoreFullError


class ZfsError(DiskError):
    """ZFS refused.

    Args:
        what: what was tried, and why not.
        number: errno.
    """

    def __init__(self, what: str, number: int, *, fix: str = "") -> None:
        super().__init__(what, fix=fix)
        self.number = number


def refused(what: str, number: int, said: str = "") -> DiskError:
    """Return the error for an errno of ZFS."""
    if number in FULL:
        return StoreFullError(
            f"{what}: no space left in the pool",
            fix="zfsiscsi storage show; zfsiscsi evidence delete; zfsiscsi image list",
        )
    fix = {
        errno.EAGAIN: "the pool is suspended: zpool status -x, then zpool clear",
        errno.EIO: "zpool status -x",
        errno.EROFS: "the pool was imported read-only",
        errno.EPERM: "run it as root",
        errno.EXDEV: "is the pool imported? zpool list",
    }.get(number, "")
    text = os.strerror(number) if 0 < number < 200 else (said or f"error {number}")
    return ZfsError(f"{what}: {text}", number, fix=fix)


class ignoring(contextlib.AbstractContextManager[None]):  # noqa: N801 - as contextlib.suppress
    """Go on when ZFS says this errno: what was wanted is so already."""

    def __init__(self, *numbers: int) -> None:
        self._numbers = numbers

    def __exit__(self, _type: object, error: BaseException | None, _traceback: object) -> bool:
        return isinstance(error, ZfsError) and error.number in self._numbers

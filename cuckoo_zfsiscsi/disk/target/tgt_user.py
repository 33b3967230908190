"""Lets one thread be another user for a moment.

tgtd answers its own user alone (SO_PEERCRED, unix(7)), and no thread beside may lose its rights for
it. In the kernel users belong to threads; it is the C library that changes all of them at once
(nptl(7)), so it is not asked.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
from collections.abc import Iterator

_KEEP = -1  # setresuid(2)


@contextlib.contextmanager
def acting_as(user: int) -> Iterator[None]:
    """Have a user's effective ids, and none of root's capabilities, until the end of the block.

    Args:
        user: user and group id.

    Raises:
        OSError: we may not.
    """
    own_user, own_group = os.geteuid(), os.getegid()
    _set("setresgid", user)
    try:
        _set("setresuid", user)
        try:
            yield
        finally:
            _back("setresuid", own_user)  # first: with it come the capabilities
    finally:
        _back("setresgid", own_group)


def _back(call: str, own: int) -> None:
    try:
        _set(call, own)
    except OSError:  # pragma: no cover - the saved id is ours
        os.abort()  # no thread may go on as somebody else


def _set(call: str, effective: int) -> None:
    number, syscall = _number(call), _libc().syscall
    if syscall(*map(ctypes.c_long, (number, _KEEP, effective, _KEEP))):
        error = ctypes.get_errno()
        raise OSError(error, f"{call}: {os.strerror(error)}")


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


@functools.cache
def _number(call: str) -> int:
    """Return a call's number on this processor's architecture."""
    import pyseccomp

    return pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, call)

"""The operating system's errors -> ours."""

from __future__ import annotations

import errno
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from cuckoo_zfsiscsi.errors import DiskError, StoreFullError

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})

_P = ParamSpec("_P")
_R = TypeVar("_R")


class _HasPath(Protocol):
    @property
    def path(self) -> Path: ...


_S = TypeVar("_S", bound=_HasPath)


def full(path: Path) -> StoreFullError:
    """Return the error of a store without space."""
    return StoreFullError(
        f"no space left in {path}",
        fix=f"df -h {path}; delete images that no host uses: zfsiscsi image list",
    )


def guarded(
    method: Callable[Concatenate[_S, _P], _R],
) -> Callable[Concatenate[_S, _P], _R]:
    """Let a method of a store at self.path raise DiskError and StoreFullError, never OSError."""

    @functools.wraps(method)
    def call(store: _S, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return method(store, *args, **kwargs)
        except OSError as error:
            if error.errno in FULL:
                raise full(store.path) from error
            where = error.filename or store.path
            raise DiskError(f"the store fails: {where}: {error.strerror}") from error

    return call

"""Secrets: read from a file of mode 0600, each time that they are needed."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from pydantic import SecretStr

from cuckoo_zfsiscsi.errors import ConfigError

_LARGEST = 4096


def read_secret_file(path: Path, *, where: str) -> SecretStr:
    """Return the one line of a secret file.

    Args:
        path: the file. Neither group nor others may have any right to it.
        where: the configuration key that names it, for messages: "[pc1] power_password_file".

    Raises:
        ConfigError: missing, unreadable, open to others, empty or more than one line.
    """
    with secret_file(path, where=where) as file:
        content = file.read(_LARGEST + 1)
    try:
        secret = content.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        secret = "\n"  # noqa: S105 - refused below
    if not secret or "\n" in secret or "\0" in secret or len(content) > _LARGEST:
        raise ConfigError(
            f"{where}: {path} must hold the secret alone, on one line of text",
            fix=f"write it again: sudoedit {path}",
        )
    return SecretStr(secret)


@contextmanager
def secret_file(path: Path, *, where: str) -> Iterator[BinaryIO]:
    """Open a file that its owner alone has any right to.

    Args:
        path: the file.
        where: the configuration key that names it.

    Raises:
        ConfigError: missing, unreadable, open to others or not a file.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise ConfigError(
            f"{where}: {path} does not exist",
            fix=f"install -m 600 /dev/null {path}; then write the secret into it",
        ) from None
    except OSError as error:
        raise ConfigError(
            f"{where}: {path} can't be read: {error.strerror}", fix=f"chown $(id -un) {path}"
        ) from None
    with os.fdopen(descriptor, "rb") as file:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise ConfigError(f"{where}: {path} is not a file", fix=f"name a file: {where} = ...")
        if mode & 0o077:
            raise ConfigError(
                f"{where}: {path} is open to others (mode {stat.S_IMODE(mode):04o})",
                fix=f"chmod 600 {path}",
            )
        yield file

"""Checks that every driver makes of its URL."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from cuckoo_zfsiscsi.errors import ConfigError

if TYPE_CHECKING:
    from pydantic import SecretStr

    from cuckoo_zfsiscsi.config import PowerUrl


def check_options(url: PowerUrl, known: Mapping[str, tuple[str, str]]) -> None:
    """Check the options of a URL.

    Args:
        url: of a power device.
        known: option: what it may be, as a pattern and in words.

    Raises:
        ConfigError: an option is unknown or not right.
    """
    name = url.scheme.partition("+")[0]
    for option, value in url.options.items():
        if option == "password_file":  # read before the driver is made
            continue
        if option not in known:
            raise ConfigError(
                f"power = {url}: {name} has no option {option}",
                fix=f"use only {', '.join(known)}" if known else "leave it out",
            )
        pattern, words = known[option]
        if not re.fullmatch(pattern, value):
            raise ConfigError(f"power = {url}: {option} is not right", fix=f"{option} is {words}")


def need_secret(url: PowerUrl, secret: SecretStr | None) -> SecretStr:
    """Return the password, which there must be, and a user for it.

    Raises:
        ConfigError: there is none.
    """
    if not url.user:
        raise ConfigError(f"power = {url}: no user", fix=f"power = {url.scheme}://USER@{url.host}")
    if secret is None:
        raise ConfigError(
            f"power = {url}: no password",
            fix="set power_password_file (a file of root, mode 0600) in the host's section",
        )
    return secret

"""Netboot: from power-on to the disk. DHCP and TFTP, boot scripts, and who may have one."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from cuckoo_zfsiscsi.errors import NetbootError

OnEvent = Callable[[str, str, float], None]
"""Called from any thread with (label of the host, kind, monotonic seconds).

Kinds: dhcp (an address was given), tftp (a boot file was sent), script (the boot script was),
unarmed (the boot script was asked for, and the host has none)."""

_templates = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    undefined=StrictUndefined,
    autoescape=False,  # noqa: S701 - not HTML; every value goes through plain()
    trim_blocks=True,
    keep_trailing_newline=True,
)


def render_template(name: str, **values: object) -> str:
    """Fill in a template of this package."""
    return _templates.get_template(name).render(**values)


def plain(what: str, value: object, pattern: str) -> str:
    """Return the value as text if it is only what the pattern allows: no line can be smuggled in.

    Raises:
        NetbootError: it is not.
    """
    text = str(value)
    if not re.fullmatch(pattern, text, re.ASCII):
        raise NetbootError(f"{what} may not be used in a boot configuration: it has odd characters")
    return text

"""What CAPE makes of a file that is right for us: its reader turns some texts into other things."""

from __future__ import annotations

from collections.abc import Iterator
from configparser import ConfigParser
from typing import Any, get_args

from cuckoo_zfsiscsi.check import Finding
from cuckoo_zfsiscsi.config.host import HostConfig
from cuckoo_zfsiscsi.config.ini import Ini
from cuckoo_zfsiscsi.config.load import FIXED
from cuckoo_zfsiscsi.config.mistakes import shown

_OUR_WORDS = {("netboot", "ra_prefix")}
"""Keys that only we read, and whose `off` is meant as such."""


def check_dialect(ini: Ini) -> Iterator[Finding]:
    """Compare what CAPE will see with what is written."""
    for section, values in ini.sections.items():
        keys = FIXED.get(section, HostConfig).keys()
        for key, text in values.items():
            where = f"[{section}] {key} = {shown(key, text)}"
            if (section, key) in ini.from_environment:
                what = "CAPE does not start unless it has this environment variable too"
                yield Finding("warning", where, what, "set it for CAPE's services as well")
            if key not in keys or (section, key) in _OUR_WORDS:
                continue
            seen = as_cape(text)
            if _is_text(keys[key].annotation) and not isinstance(seen, str):
                yield Finding("warning", where, f"CAPE takes it for {seen!r}", _fix(key, text))


def as_cape(text: str) -> bool | int | str:
    """Return what CAPE's lib/cuckoo/common/config.py makes of a value."""
    if text not in ("0", "1") and text.lower() in ConfigParser.BOOLEAN_STATES:
        return ConfigParser.BOOLEAN_STATES[text.lower()]
    try:
        return int(text)
    except ValueError:
        return text


def _is_text(annotation: Any) -> bool:  # noqa: ANN401 - typing has no type for annotations
    """Tell whether a key is neither a number nor a switch (X | None counts as X)."""
    kinds = {annotation, *get_args(annotation)}
    return not kinds & {bool, int, float}


def _fix(key: str, text: str) -> str:
    if key == "mac":
        return "write it with colons: mac = " + ":".join(text[i : i + 2] for i in range(0, 12, 2))
    return f"use a name that is more than digits, and no on, off, yes or no: {key} = x{text}"

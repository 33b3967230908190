"""The manual page: python -m cuckoo_zfsiscsi.config.manual > docs/configuration.rst."""

from __future__ import annotations

import sys
from typing import Any

from cuckoo_zfsiscsi.config.base import Section
from cuckoo_zfsiscsi.config.host import HostConfig
from cuckoo_zfsiscsi.config.load import FIXED
from cuckoo_zfsiscsi.config.networks import Network

_HEAD = """\
Configuration
=============

.. Generated: python -m cuckoo_zfsiscsi.config.manual > docs/configuration.rst

One file, ``/etc/zfsiscsi/zfsiscsi.conf`` (another with ``zfsiscsi --conf FILE``), is read by CAPE
and by the service. ``conf/zfsiscsi.conf`` is a complete example. After each change::

    zfsiscsi check

It tells every mistake at once, looks at files, network and images, and asks every power device.
``zfsiscsi check --offline`` looks at nothing but the file.

- Comments have lines of their own. ``%`` is written ``%%``; ``%(ENV:NAME)s`` is an environment
  variable.
- Secrets have files of their own, mode 600; a secret in this file is refused.
- Keys that CAPE reads from a machinery's file are allowed here too.
"""


def written(value: Any) -> str:  # noqa: ANN401 - any field's
    """Write a default as it is written in the file."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ",".join(value)
    if isinstance(value, float):
        return f"{value:g}"
    return "" if value is None else str(value)


def _table(name: str, model: type[Section]) -> str:
    summary = (model.__doc__ or "").partition(": ")[2].splitlines()[0]
    title = f"[{name}]"
    lines = [title, "-" * len(title), summary[0].upper() + summary[1:], ""]
    lines += [".. list-table::", "   :header-rows: 1", "   :widths: 18 22 60", ""]
    lines += ["   * - Key", "     - Default", "     - Meaning"]
    for key, info in model.keys().items():
        default = written(info.default) if not info.is_required() else ""
        needed = "**needed**" if info.is_required() else "not set"
        lines.append(f"   * - ``{key}``")
        lines.append(f"     - ``{default}``" if default else f"     - {needed}")
        example = (info.examples or [""])[0]
        more = f" Example: ``{example}``." if example != default else ""
        lines.append(f"     - {info.description}{more}")
    return "\n".join(lines) + "\n"


def render() -> str:
    """Return the manual page, made of the models' descriptions."""
    tables = [_table(name, model) for name, model in FIXED.items()]
    more = [_table("network:NAME", Network), _table("HOST", HostConfig)]
    return "\n".join([_HEAD, *tables, *more])


if __name__ == "__main__":
    sys.stdout.write(render())

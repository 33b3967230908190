"""The environment of every program that we start: made for it, never our own.

Ours may hold the passwords of power devices (ZFSISCSI_POWER_PASSWORD_*), and what talks to guests
(DHCP servers, the iSCSI target) must not have them: /proc/PID/environ, a core file or a bug in it
would give them away. Nothing of ours is handed on but PATH, and PYTHONPATH to our own programs: no
proxies, no files of certificates, no LD_* and no HOME. What a program needs beside that its caller
names.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

_SYSTEM = ("/usr/local/sbin", "/usr/sbin", "/sbin")
"""Where system programs are; not in every user's PATH."""


def search_path() -> str:
    """Return PATH, with the folders of system programs behind it."""
    own = os.environ.get("PATH", os.defpath).split(os.pathsep)
    return os.pathsep.join([*own, *(folder for folder in _SYSTEM if folder not in own)])


def for_child(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment of a program: where programs are, messages in English, UTF-8.

    Args:
        more: what it needs beside that.
    """
    return {"PATH": search_path(), "LC_ALL": "C.UTF-8", **(more or {})}


def for_python(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment of a program that imports this package, perhaps from a checkout."""
    path = os.environ.get("PYTHONPATH")
    return for_child({**({"PYTHONPATH": path} if path else {}), **(more or {})})

"""pyzfs and rtslib, which the distribution has and PyPI has not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from cuckoo_zfsiscsi.check import Finding
from cuckoo_zfsiscsi.config import Config
from cuckoo_zfsiscsi.doctor.system import System

PACKAGES = {
    "libzfs_core": ("python3-pyzfs", "zfs"),
    "rtslib_fb": ("python3-rtslib-fb", "lio"),
}
"""Module: Debian's package, and the store or target that needs it."""
SYSTEM = "/usr/bin/python3"


def check_python(config: Config, system: System) -> Iterator[Finding]:
    """Import them with the service's Python."""
    for module, (package, user) in PACKAGES.items():
        if user not in (config.storage.store, config.storage.target):
            continue
        where = f"Python {system.python}"
        answer = system.run([str(system.python), "-c", f"import {module}"])
        if answer is not None and answer.code == 0:
            yield Finding("ok", where, f"{module} ({package}) can be imported")
            continue
        # The distribution's module is compiled for, and lies beside, the distribution's Python.
        theirs = system.run([SYSTEM, "-c", f"import {module}"])
        if theirs is None or theirs.code:
            what, fix = f"{package} is not installed", f"apt install {package}"
        else:
            what, fix = _hidden(module, system)
        yield Finding("error", where, what, fix)


def _hidden(module: str, system: System) -> tuple[str, str]:
    """Say why a module that the system's Python has is not seen."""
    environment = system.python.parent.parent
    fix = f"{SYSTEM} -m venv --clear --system-site-packages {environment}, then install again"
    settings = system.read(environment / "pyvenv.cfg")
    if settings is None:
        what = f"{module} is there for {SYSTEM} alone, and this is another Python"
        return what, "deploy/install makes an environment of the right one in /opt/zfsiscsi"
    if not re.search(r"^include-system-site-packages = true$", settings, re.MULTILINE):
        what = f"{module} is there, but this environment was made without --system-site-packages"
        return what, fix
    home = re.search(r"^home = (.+)$", settings, re.MULTILINE)
    if home and Path(home[1]) != Path(SYSTEM).parent:
        what = f"{module} is there for {SYSTEM}, but this environment is of a Python in {home[1]}"
        return what, fix
    return f"{module} can't be imported", f"{system.python} -c 'import {module}'"

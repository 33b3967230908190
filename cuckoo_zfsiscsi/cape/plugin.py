"""Puts this package into CAPE's environment: the wheel that the service has of itself.

Our own pip does it for another interpreter, which needs none itself: environments of poetry, venv
and uv are then all alike.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cuckoo_zfsiscsi import __version__
from cuckoo_zfsiscsi.cape.client import Client, ServiceError
from cuckoo_zfsiscsi.environment import for_child
from cuckoo_zfsiscsi.errors import PluginError

NAME = "cuckoo-zfsiscsi"
WHEEL = f"cuckoo_zfsiscsi-{__version__}-py3-none-any.whl"
TIMEOUT = 300.0
"""Seconds for one program."""
PIP = ("-m", "pip", "--isolated", "--no-input", "--disable-pip-version-check", "--no-cache-dir")

_INSTALLED = """
from importlib.metadata import PackageNotFoundError, distribution
try:
    print(distribution("cuckoo-zfsiscsi").read_text("direct_url.json") or "null")
except PackageNotFoundError:
    print("null")
"""
_THERE = """
from importlib.metadata import distributions
print(any(one.metadata["Name"] == "cuckoo-zfsiscsi" for one in distributions()))
"""
_LOADS = "import requests, cuckoo_zfsiscsi.cape.client; print(cuckoo_zfsiscsi.__version__)"


def find_python(root: Path, named: Path | None) -> Path | None:
    """Return CAPE's interpreter: the one that was named, else that of CAPE's own .venv."""
    own = root / ".venv/bin/python"
    python = named or (own if own.exists() else None)
    return python.absolute() if python else None  # not resolved: that would leave the environment


def how_to_find(root: Path) -> str:
    """Return the option that names CAPE's interpreter where poetry has put it."""
    return (
        f'--cape-python "$(sudo -u cape /etc/poetry/bin/poetry -C {root} env info --path)'
        '/bin/python"'
    )


def install(python: Path, client: Client) -> bool:
    """Install the service's wheel for an interpreter; return whether it was not there already.

    Raises:
        ServiceError: the service does not give it.
        PluginError: it is another version's, or damaged, or can't be installed.
    """
    try:
        offered = client.plugin()
    except ServiceError as error:
        if error.status == 404 and _has_this_version(python):  # put there by hand, from a checkout
            return False
        raise
    if offered["version"] != __version__:
        raise PluginError(
            f"the service is version {offered['version']}, this command {__version__}",
            fix="run deploy/install on the storage server; systemctl restart zfsiscsi; then "
            "install this command again (docs/cape.rst)",
        )
    if offered["sha256"] == _installed(python):
        return False
    wheel = client.fetch_plugin(WHEEL)
    if hashlib.sha256(wheel).hexdigest() != offered["sha256"]:
        raise PluginError(
            f"{WHEEL} of {client.service} is not what its sha256 says",
            fix="try again; then run deploy/install again on the storage server",
        )
    # TMPDIR may be for root's eyes alone
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        path = Path(folder) / WHEEL
        path.write_bytes(wheel)
        Path(folder).chmod(0o755)  # whoever owns the environment reads it
        words = ["install", "--no-deps", "--no-index", "--no-warn-script-location"]
        # Also over the same version: a checkout may have changed. pip keeps the hash, see below.
        url = f"{path.as_uri()}#sha256={offered['sha256']}"
        _pip(python, [*words, "--force-reinstall", f"{NAME} @ {url}"])
    _run([str(python), "-c", _LOADS], python, f"{python} can't load it")
    return True


def is_installed(python: Path) -> bool:
    """Tell whether an interpreter has it, whoever put it there.

    Raises:
        PluginError: the interpreter does not run.
    """
    return _run([str(python), "-c", _THERE], python, f"{python} does not run").strip() == "True"


def uninstall(python: Path) -> bool:
    """Take it out again; return whether it was there.

    Raises:
        PluginError: it can't be.
    """
    return "Successfully" in _pip(python, ["uninstall", "--yes", NAME])


def _has_this_version(python: Path) -> bool:
    try:
        return _run([str(python), "-c", _LOADS], python, "").strip() == __version__
    except PluginError:
        return False


def _installed(python: Path) -> str | None:
    """Return the sha256 of the wheel that is installed; None if that is not known."""
    said = _run([str(python), "-c", _INSTALLED], python, f"{python} does not run")
    try:
        archive: dict[str, Any] = (json.loads(said) or {}).get("archive_info", {})
    except ValueError:
        return None
    # pip before 23.1 writes the second alone
    hashes: dict[str, str] = archive.get("hashes") or dict([archive.get("hash", "=").split("=", 1)])
    return hashes.get("sha256")


def _pip(python: Path, words: Sequence[str]) -> str:
    argv = [sys.executable, *PIP, "--python", str(python), *words]
    return _run(argv, python, f"pip can't {words[0]} it for {python}")


def _run(argv: Sequence[str], python: Path, failed: str) -> str:
    """Run a program as the owner of CAPE's environment, and return what it prints.

    Root must not run what another user can change; and what root wrote, that user could not update.
    """
    fix = "name CAPE's interpreter: --cape-python FILE"
    try:
        owner = python.parent.parent.stat()
        drop = os.geteuid() == 0
        done = subprocess.run(
            argv,
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT,
            cwd="/",
            env=for_child(),
            user=owner.st_uid if drop else None,
            group=owner.st_gid if drop else None,
            extra_groups=[] if drop else None,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise PluginError(f"{failed}: {error}", fix=fix) from None
    if done.returncode:
        said = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        last = said[-1].strip() if said else f"it ended with {done.returncode}"
        if "No module named pip" in last:
            fix = f"{sys.executable} -m ensurepip --upgrade"
        elif "no such option: --python" in last:
            fix = f"{sys.executable} -m pip install --upgrade pip"
        raise PluginError(f"{failed}: {last}", fix=fix)
    return done.stdout

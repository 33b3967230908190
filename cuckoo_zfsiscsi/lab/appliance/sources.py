"""A private view of apt: this machine's own mirrors, with the component that has ZFS."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from cuckoo_zfsiscsi.lab.command import HANG, run

LIST = re.compile(r"^(?!.*[ \t]contrib\b)(deb[ \t].*[ \t]main\b)", re.M)
"""A line of sources.list(5) with the component main and without contrib."""
STANZA = re.compile(r"^(?!.*\bcontrib\b)(Components:(?:.*[ \t])?main\b)", re.M | re.I)
"""The same of a deb822 file."""
TIMEOUT = HANG
"""Seconds for apt to tell where its configuration lies."""


def with_contrib(text: str, suffix: str) -> str:
    """Return a file of apt sources with the component contrib wherever main is.

    Args:
        text: the file's content.
        suffix: .list or .sources, as of its name.
    """
    return (LIST if suffix == ".list" else STANZA).sub(r"\1 contrib", text)


def view(folder: Path) -> list[str]:
    """Make the view; apt's own lists and cache are neither changed nor locked.

    Args:
        folder: holds the view's sources and its lists, which stay for the next time.

    Returns:
        Options for apt-get and apt-cache.

    Raises:
        LabError: there is no apt.
    """
    parts = folder / "sources"
    shutil.rmtree(parts, ignore_errors=True)
    for made in (parts, folder / "lists/partial", folder / "cache/archives/partial"):
        made.mkdir(parents=True, exist_ok=True)
    for path in files():
        (parts / path.name).write_text(with_contrib(path.read_text(), path.suffix))
    options = {
        "Dir::Etc::sourcelist": "/dev/null",
        "Dir::Etc::sourceparts": parts,
        "Dir::State::lists": folder / "lists",
        "Dir::Cache": folder / "cache",
        "Acquire::Languages": "none",
        "APT::Sandbox::User": "root",
    }
    return [word for key, value in options.items() for word in ("-o", f"{key}={value}")]


def files() -> list[Path]:
    """Return the files in which this machine's apt sources stand.

    Raises:
        LabError: there is no apt.
    """
    keys = ("sourcelist", "sourceparts")
    shell = [word for key in keys for word in (key, f"Dir::Etc::{key}/f")]
    said = dict(
        re.findall(r"^(\w+)='(.*)'$", run(["apt-config", "shell", *shell], timeout=TIMEOUT), re.M)
    )
    parts = Path(said.get("sourceparts", "/etc/apt/sources.list.d"))
    found = [Path(said.get("sourcelist", "/etc/apt/sources.list")), *sorted(parts.glob("*"))]
    return [path for path in found if path.suffix in (".list", ".sources") and path.is_file()]

"""Puts the shim and the hosts' sections into a CAPE tree, and takes them out again.

Keys of CAPE's own files are changed only when that is asked for; what they were is noted beside
the hosts' file, so that they can be set back.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cuckoo_zfsiscsi.cape.tree import CapeTree, Change, apply, write
from cuckoo_zfsiscsi.errors import ConfigError

SHIM = Path(__file__).with_name("shim.py")
HEAD = """\
# Written by "zfsiscsi cape install" from what the service says of its hosts. Change the service's
# zfsiscsi.conf, restart the service, and write it again.
"""


def render(view: dict[str, Any], service: str, token_file: str | None) -> str:
    """Return CAPE's zfsiscsi.conf.

    Args:
        view: what the service says of its hosts, see service.cape_view.
        service: its URL, as CAPE reaches it.
        token_file: with the token for it, on CAPE's server.
    """
    general = {
        "machines": ",".join(host["label"] for host in view["hosts"]),
        "interface": view["interface"],
        "service": service,
        "token_file": token_file,
        "start_timeout": f"{view['start_timeout']:g}",
        "stop_timeout": f"{view['stop_timeout']:g}",
    }
    sections = {"zfsiscsi": general, **{host["label"]: host for host in view["hosts"]}}
    text = HEAD
    for name, values in sections.items():
        text += f"\n[{name}]\n"
        # CAPE's reader takes % for the begin of something else
        lines = [f"{key} = {value}" for key, value in values.items() if value]
        text += "".join(f"{line}\n".replace("%", "%%") for line in lines)
    return text


def install(tree: CapeTree, conf: str) -> list[Path]:
    """Write the shim and the hosts' file where they differ; return what was written.

    Raises:
        ConfigError: a file can't be written, or is somebody else's.
    """
    written = []
    for path, text, mark in (
        (tree.shim, SHIM.read_text(), "cuckoo-zfsiscsi"),
        (tree.conf, conf, HEAD.splitlines()[0]),
    ):
        found = path.read_text(errors="replace") if path.exists() else None
        if path.is_symlink() or (found is not None and mark not in found):
            raise ConfigError(f"{path} is there, and not ours", fix=f"mv {path} {path}.before")
        if found != text:
            write(path, text)
            written.append(path)
    return written


def change(tree: CapeTree, changes: Sequence[Change]) -> None:
    """Change keys, and note what they were.

    Raises:
        ConfigError: a file can't be written.
    """
    noted = {(c.path, c.section, c.key): c for c in _noted(tree)}
    for one in changes:
        before = noted.get((one.path, one.section, one.key))
        noted[one.path, one.section, one.key] = replace(one, old=before.old) if before else one
    _note(tree, list(noted.values()))  # first: a change that is not noted can't be undone
    for one in changes:
        _apply(one)


def undo(tree: CapeTree) -> list[Change]:
    """Return what sets the changed keys back; a key that somebody changed since stays.

    Raises:
        ConfigError: a file can't be read.
    """
    found = []
    for one in _noted(tree):
        now = one.path.read_text() if one.path.exists() else ""
        back = replace(one, old=one.new, new=one.old)
        line = f"{one.key} = {one.new}"
        if line in now.splitlines():
            found.append(back)
    return found


def uninstall(tree: CapeTree, changes: Sequence[Change]) -> list[Path]:
    """Remove what install() wrote, after setting back these keys; return what is gone.

    Raises:
        ConfigError: a file can't be written or removed.
    """
    removed = []
    for one in changes:
        _apply(one)
        lines = one.path.read_text().splitlines()
        if all(line.startswith("[") or not line for line in lines):  # nothing but our keys in it
            removed.append(one.path)
    mine = ((tree.shim, "cuckoo-zfsiscsi"), (tree.conf, HEAD.splitlines()[0]))
    for path, mark in mine:
        if path.is_file() and not path.is_symlink() and mark in path.read_text(errors="replace"):
            removed.append(path)
    if changes or not undo(tree):
        removed += [path for path in [_notes(tree)] if path.exists()]
    try:
        for path in removed:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(
            f"{error.filename} can't be removed: {error.strerror}",
            fix="run it as root, or as CAPE's user",
        ) from None
    return removed


def _apply(one: Change) -> None:
    text = one.path.read_text() if one.path.exists() else ""
    write(one.path, apply(text, one))


def _notes(tree: CapeTree) -> Path:
    return tree.conf.with_name("zfsiscsi.changes.json")


def _noted(tree: CapeTree) -> list[Change]:
    path = _notes(tree)
    if not path.exists():
        return []
    try:
        return [
            Change(**{**one, "path": Path(one["path"])}) for one in json.loads(path.read_text())
        ]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ConfigError(f"{path} can't be read: {error}", fix=f"rm {path}") from None


def _note(tree: CapeTree, changes: list[Change]) -> None:
    plain = [{**vars(one), "path": str(one.path)} for one in changes]
    write(_notes(tree), json.dumps(plain, indent=1) + "\n")

"""Puts the shim and the hosts' sections into a CAPE tree, and takes them out again.

Keys of CAPE's own files are changed only when that is asked for; what they were is noted beside
the hosts' file, so that they can be set back.

Wherever this is interrupted, CAPE still starts: the key that names the machinery is the last that
is changed, and the first that is set back, so that what it names is there; and each file is
written as a whole. The same command again does the rest.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cuckoo_zfsiscsi.cape.tree import CapeTree, Change, apply, raw_value, temporary, write
from cuckoo_zfsiscsi.errors import ConfigError

NAME = "zfsiscsi"
"""Of the machinery, for CAPE."""
SHIM = Path(__file__).with_name("shim.py")
HEAD = """\
# Written by "zfsiscsi cape install" from what the service says of its hosts. Change the service's
# zfsiscsi.conf, restart the service, and write it again.
"""


def render(
    view: dict[str, Any], service: str, token_file: str | None, ca_file: str | None = None
) -> str:
    """Return CAPE's zfsiscsi.conf.

    Args:
        view: what the service says of its hosts, see service.cape_view.
        service: its URL, as CAPE reaches it.
        token_file: with the token for it, on CAPE's server.
        ca_file: with the certificates to trust there, for https.
    """
    own = {
        "machines": ",".join(host["label"] for host in view["hosts"]),
        "service": service,
        "token_file": token_file,
        "ca_file": ca_file,
        **general(view),
    }
    sections = {NAME: own, **{host["label"]: host for host in view["hosts"]}}
    text = HEAD
    for name, values in sections.items():
        text += f"\n[{name}]\n"
        # CAPE's reader takes % for the begin of something else
        lines = [f"{key} = {value}" for key, value in values.items() if value]
        text += "".join(f"{line}\n".replace("%", "%%") for line in lines)
    return text


def general(view: dict[str, Any]) -> dict[str, str]:
    """Return the keys of [zfsiscsi] that are the service's own.

    Args:
        view: what it says of its hosts, see service.cape_view.
    """
    return {
        "interface": view["interface"],
        "start_timeout": f"{view['start_timeout']:g}",
        "stop_timeout": f"{view['stop_timeout']:g}",
    }


def install(tree: CapeTree, conf: str) -> list[Path]:
    """Write the shim and the hosts' file where they differ; return what was written.

    Raises:
        ConfigError: a file can't be written, or is somebody else's.
    """
    for path, mark in _ours(tree).items():
        if path.is_symlink() or (path.exists() and not _has(path, mark)):
            raise ConfigError(f"{path} is there, and not ours", fix=f"mv {path} {path}.before")
    _remove_unfinished(tree)
    written = []
    for path, text in ((tree.conf, conf), (tree.shim, SHIM.read_text())):
        if not path.exists() or path.read_text(errors="replace") != text:
            write(path, text)
            written.append(path)
    return written


def change(tree: CapeTree, changes: Sequence[Change]) -> None:
    """Change keys, and note what they were.

    Raises:
        ConfigError: a file can't be written.
    """
    noted = {_id(one): one for one in _noted(tree)}
    for one in changes:
        before = noted.get(_id(one))
        # A value that we wrote is not what somebody wants back
        ours = before is not None and before.new == one.old
        noted[_id(one)] = replace(one, old=before.old) if before and ours else one
    texts = _texts(changes)
    _note(tree, list(noted.values()))  # first: a change that is not noted can't be undone
    for path in sorted(texts, key=lambda path: _names_machinery(path, changes)):
        write(path, texts[path])


def undo(tree: CapeTree) -> list[Change]:
    """Return what sets the changed keys back; a key that somebody changed since stays.

    Raises:
        ConfigError: a file can't be read.
    """
    return [
        replace(one, old=one.new, new=one.old)
        for one in _noted(tree)
        if raw_value(one.path, one.section, one.key) == one.new
    ]


def remains(tree: CapeTree) -> list[Path]:
    """Return the files that are ours alone, in the order in which they may go.

    Raises:
        ConfigError: a file can't be read.
    """
    paths = [path for path, mark in _ours(tree).items() if _has(path, mark)]
    if _notes(tree).exists():
        paths.append(_notes(tree))  # last: whoever is interrupted needs it again
    return paths


def uninstall(tree: CapeTree) -> list[Path]:
    """Set back the keys that undo() returns, then remove what is ours; return what is gone.

    Raises:
        ConfigError: a file can't be written or removed, or CAPE needs ours still.
    """
    changes = undo(tree)
    refuse_if_needed(tree, changes)
    texts = _texts(changes)
    _remove_unfinished(tree)
    gone = []
    for path in sorted(texts, key=lambda path: not _names_machinery(path, changes)):
        lines = texts[path].splitlines()
        if all(line.startswith("[") or not line for line in lines):  # nothing but our keys in it
            _remove(path)
            gone.append(path)
        else:
            write(path, texts[path])
    refuse_if_needed(tree, [])
    for path in remains(tree):
        _remove(path)
        gone.append(path)
    return gone


def refuse_if_needed(tree: CapeTree, changes: Iterable[Change]) -> None:
    """Refuse to remove what CAPE loads at its start, whatever these changes set back.

    Raises:
        ConfigError: it does.
    """
    if NAME not in tree.machineries or any(one.key == "machinery" for one in changes):
        return
    name, fix = "cuckoo", "write another, such as machinery = kvm"
    if tree.is_multi:
        name, fix = "multi", f"take {NAME} out of it"
    raise ConfigError(
        f"{tree.place(name, name, 'machinery')} says machinery = "
        f"{tree.get(name, name, 'machinery')}, and not by us: without our files CAPE would not "
        "start",
        fix=f"{fix}; then this again",
    )


def _ours(tree: CapeTree) -> dict[Path, str]:
    """Return our files, and what is in each of them."""
    return {tree.shim: "cuckoo-zfsiscsi", tree.conf: HEAD.splitlines()[0]}


def _has(path: Path, mark: str) -> bool:
    return path.is_file() and not path.is_symlink() and mark in path.read_text(errors="replace")


def _id(one: Change) -> tuple[Path, str, str]:
    return one.path, one.section, one.key


def _texts(changes: Iterable[Change]) -> dict[Path, str]:
    """Return the files that the changes make, as they are to be."""
    texts: dict[Path, str] = {}
    for one in changes:
        if one.path not in texts:
            texts[one.path] = one.path.read_text() if one.path.exists() else ""
        texts[one.path] = apply(texts[one.path], one)
    return texts


def _names_machinery(path: Path, changes: Iterable[Change]) -> bool:
    return any(one.path == path and one.key == "machinery" for one in changes)


def _remove_unfinished(tree: CapeTree) -> None:
    """Remove what is left of a write that was interrupted."""
    for path in {tree.shim, tree.conf, _notes(tree), *(one.path for one in _noted(tree))}:
        _remove(temporary(path))


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(
            f"{path} can't be removed: {error.strerror}", fix="run it as root, or as CAPE's user"
        ) from None


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

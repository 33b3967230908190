"""A CAPE tree: its configuration as CAPE reads it, and changes of single keys in its files."""

from __future__ import annotations

import configparser
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cuckoo_zfsiscsi.cape.values import words
from cuckoo_zfsiscsi.errors import ConfigError

SIGNS = ("cuckoo.py", "lib/cuckoo/common/abstracts.py", "modules/machinery")
"""What makes a folder a CAPE tree."""


@dataclass(frozen=True)
class Change:
    """One key that has, or is to have, another value. Values are as in the file: % is %%."""

    path: Path
    section: str
    key: str
    old: str | None
    """None: the key is not in this file."""
    new: str | None
    """None: the key goes."""


class CapeTree:
    """The folder in which CAPE is.

    Args:
        root: the folder.
        extra: what CAPE is given as $CAPE_CD, if anything.

    Raises:
        ConfigError: CAPE is not there.
    """

    def __init__(self, root: Path, extra: Path | None = None) -> None:
        for sign in SIGNS:
            if not (root / sign).exists():
                raise ConfigError(
                    f"{root} is no CAPE tree: it has no {sign}", fix="--cape-root /opt/CAPEv2"
                )
        self.root = root
        self.shim = root / "modules/machinery/zfsiscsi.py"
        self.conf = root / "custom/conf/zfsiscsi.conf"
        self._extra = extra

    def files(self, name: str) -> list[Path]:
        """Return the files that CAPE reads for one configuration, the last of which wins."""
        conf, custom = self.root / "conf", self.root / "custom/conf"
        files = [conf / f"default/{name}.conf.default", conf / f"{name}.conf"]
        files += sorted((conf / f"{name}.conf.d").glob("*.conf"))
        files.append(custom / f"{name}.conf")
        files += sorted((custom / f"{name}.conf.d").glob("*.conf"))
        if self._extra:
            files.append(self._extra / f"{name}.conf")
        return [file for file in files if file.is_file()]

    def read(self, name: str) -> dict[str, dict[str, str]]:
        """Return one configuration: sections, keys, values as text.

        Raises:
            ConfigError: a file can't be read, or has a mistake.
        """
        found: dict[str, dict[str, str]] = {}
        for file in self.files(name):
            for section, values in _parse(file).items():
                found.setdefault(section, {}).update(values)
        return found

    def get(self, name: str, section: str, key: str, default: str = "") -> str:
        """Return one value.

        Raises:
            ConfigError: as read().
        """
        return self.read(name).get(section, {}).get(key, default)

    def change(self, name: str, section: str, key: str, value: str) -> Change | None:
        """Return what must be changed for a key to have a value; None if it has it.

        It is changed where CAPE reads it last; what is only CAPE's default, in custom/conf.

        Raises:
            ConfigError: as read().
        """
        if self.get(name, section, key) == value:
            return None
        new = value.replace("%", "%%")
        place = self.place(name, section, key)
        return Change(place, section, key, raw_value(place, section, key), new)

    def place(self, name: str, section: str, key: str) -> Path:
        """Return the file whose value of a key CAPE takes, or custom/conf's if none has it.

        Raises:
            ConfigError: as read().
        """
        default = self.root / "conf/default"
        for file in reversed([file for file in self.files(name) if file.parent != default]):
            if raw_value(file, section, key) is not None:
                return file
        return self.root / "custom/conf" / f"{name}.conf"

    @property
    def machineries(self) -> list[str]:
        """The machineries that CAPE loads.

        Raises:
            ConfigError: as read().
        """
        if self.is_multi:
            return words(self.get("multi", "multi", "machinery"))
        return [self.get("cuckoo", "cuckoo", "machinery")]

    @property
    def is_multi(self) -> bool:
        """Whether CAPE has several machineries.

        Raises:
            ConfigError: as read().
        """
        return self.get("cuckoo", "cuckoo", "machinery") == "multi"


def raw_value(file: Path, section: str, key: str) -> str | None:
    """Return the value of a key as it stands in a file; None if it, or the file, is not there.

    Raises:
        ConfigError: the file can't be read, or has a mistake.
    """
    return _parse(file, raw=True).get(section, {}).get(key) if file.exists() else None


def apply(text: str, change: Change) -> str:
    """Return the text of a file after a change. Comments and all other lines stay.

    Raises:
        ConfigError: the lines around the key are such that it can't be done.
    """
    changed = _apply(text, change)
    try:
        done = _parse_text(changed, raw=True).get(change.section, {}).get(change.key) == change.new
    except configparser.Error:
        done = False
    if not done:
        key = f"{change.key} in [{change.section}] of {change.path}"
        raise ConfigError(f"{key} can't be changed by a program", fix="change it with an editor")
    return changed


def _apply(text: str, change: Change) -> str:
    lines = text.splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += "\n"
    new = [] if change.new is None else [_line(change.key, change.new)]
    begin = end = None
    for number, line in enumerate(lines):
        header = re.match(r"\[(.*)\]", line)
        if header and begin is not None:
            break
        if header and header[1] == change.section:
            begin, end = number, number + 1
        elif begin is not None:
            if re.match(rf"{re.escape(change.key)}\s*[=:]", line, re.IGNORECASE):
                after = number + 1
                while after < len(lines) and re.match(r"[ \t]+\S", lines[after]):
                    after += 1  # its value goes on in indented lines
                return "".join([*lines[:number], *new, *lines[after:]])
            if line.strip():
                end = number + 1
    if not new:
        return "".join(lines)
    if begin is None:
        return "".join([*lines, *(["\n"] if lines else []), f"[{change.section}]\n", *new])
    return "".join([*lines[:end], *new, *lines[end:]])


def _line(key: str, value: str) -> str:
    return f"{key} = {value}".replace("\n", "\n    ") + "\n"


def diff(changes: list[Change]) -> Iterator[str]:
    """Show changes to people, line by line."""
    for change in changes:
        yield f"{change.path} [{change.section}]"
        if change.old is not None:
            yield f"-{change.key} = {change.old}"
        if change.new is not None:
            yield f"+{change.key} = {change.new}"


def temporary(path: Path) -> Path:
    """Return where the text of a file is while it is written; CAPE reads no file of such a name."""
    return path.with_name(f".{path.name}.new")


def write(path: Path, text: str) -> None:
    """Write a file as a whole or not at all; it belongs to the owner of its folder.

    Raises:
        ConfigError: it can't be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        owner = path.stat() if path.exists() else path.parent.stat()
        new = temporary(path)
        new.write_text(text, encoding="utf-8")
        new.chmod(owner.st_mode & 0o777 if path.exists() else 0o644)
        if os.geteuid() == 0:
            os.chown(new, owner.st_uid, owner.st_gid)
        new.replace(path)
    except OSError as error:
        raise ConfigError(
            f"{path} can't be written: {error.strerror}", fix="run it as root, or as CAPE's user"
        ) from None


def _parse(file: Path, *, raw: bool = False) -> dict[str, dict[str, str]]:
    try:
        return _parse_text(file.read_text(encoding="utf-8"), raw=raw)
    except OSError as error:
        raise ConfigError(f"{file} can't be read: {error.strerror}", fix=f"ls -l {file}") from None
    except (configparser.Error, UnicodeDecodeError) as error:
        what = str(error).replace("\n", " ")
        raise ConfigError(
            f"{file} has a mistake: {what}", fix="CAPE can't read it either"
        ) from None


def _parse_text(text: str, *, raw: bool) -> dict[str, dict[str, str]]:
    environ = {f"ENV:{key}": value.replace("%", "%%") for key, value in os.environ.items()}
    parser = configparser.ConfigParser(environ, default_section="\0environment")
    parser.read_string(text)
    return {
        section: {k: v for k, v in parser.items(section, raw=raw) if not k.startswith("env:")}
        for section in parser.sections()
    }

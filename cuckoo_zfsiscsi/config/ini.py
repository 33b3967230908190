"""CAPE's INI dialect (its lib/cuckoo/common/config.py), without its coercions.

`%` is written `%%`, `%(ENV:NAME)s` is an environment variable, keys are case-insensitive, comments
have lines of their own. Unlike CAPE, which turns `on` or `0123` into something else, this keeps
the text of every value.
"""

from __future__ import annotations

import configparser
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from cuckoo_zfsiscsi.config.mistakes import Mistake
from cuckoo_zfsiscsi.errors import ConfigError

_ENV = "env:"
_SPARE = "\0mistake"  # can't be in a file that was read: prefix of what replaces a wrong line
_SWALLOWED = re.compile(r"\n\s*([^\s=:]+)\s*[=:]")  # keys that became part of a value
_INLINE_COMMENT = re.compile(r"(^|\s)[#;]")


@dataclass(frozen=True)
class Ini:
    """Sections in the order of the file; values as text, interpolated."""

    sections: dict[str, dict[str, str]]
    from_environment: frozenset[tuple[str, str]]
    """(section, key) of the values that use an environment variable."""
    mistakes: tuple[Mistake, ...]
    wrong: frozenset[tuple[str, str]]
    """(section, key) of the values that could not be read."""


def read_ini(path: Path, environ: Mapping[str, str] = os.environ) -> Ini:
    """Read a file; what is wrong with its syntax comes back as mistakes.

    Raises:
        ConfigError: there is no such file, or it is not text.
    """
    mistakes: list[Mistake] = []
    # Environment names that differ in case alone are one key to configparser: the last one wins.
    defaults = {f"{_ENV}{key.lower()}": value.replace("%", "%%") for key, value in environ.items()}
    parser = _parse(path, defaults, mistakes)
    sections: dict[str, dict[str, str]] = {}
    from_environment: set[tuple[str, str]] = set()
    wrong: set[tuple[str, str]] = set()
    for section in parser.sections():
        if section.startswith(_SPARE):
            continue
        if section == configparser.DEFAULTSECT:
            fix = "move its keys into the sections they are of"
            mistakes.append(Mistake(section, "", "", "is not used", fix))
            continue
        values = sections[section] = {}
        for key in parser[section]:
            if key.startswith((_ENV, _SPARE)):
                continue
            raw = parser.get(section, key, raw=True)
            if f"%({_ENV}" in raw.lower():
                from_environment.add((section, key))
            mistake = _take(parser, section, key, raw, values)
            if mistake:
                mistakes.append(mistake)
                wrong |= {(section, k) for k in (key, *_SWALLOWED.findall(raw.lower()))}
    return Ini(sections, frozenset(from_environment), tuple(mistakes), frozenset(wrong))


def _read_text(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"{path} does not exist",
            fix=f"copy conf/zfsiscsi.conf to {path} and edit it, or name another with --conf",
        ) from None
    except OSError as error:
        raise ConfigError(
            f"{path} can't be read: {error.strerror}", fix=f"sudo ls -l {path}"
        ) from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigError(
            f"{path} line {line} is not UTF-8 text", fix=f"sed -n {line}p {path} | cat -A"
        ) from None
    if text.startswith("\ufeff"):
        raise ConfigError(
            f"{path} begins with a byte order mark, which CAPE can't read",
            fix=f"sed -i '1s/^\\xef\\xbb\\xbf//' {quote(str(path))}",
        )
    return text.replace("\0", "?")


def _parse(
    path: Path, defaults: Mapping[str, str], mistakes: list[Mistake]
) -> configparser.ConfigParser:
    """Parse, put each wrong line on record, and go on without it."""
    file = quote(str(path))
    lines = _read_text(path).split("\n")
    while True:
        parser = configparser.ConfigParser(defaults, default_section=_SPARE)
        try:
            parser.read_string("\n".join(lines))
        except configparser.DuplicateSectionError as error:
            number = error.lineno or 1
            mistakes.append(
                Mistake(
                    error.section,
                    "",
                    "",
                    f"this section is there twice, again on line {number}",
                    "make one section of the two",
                )
            )
            lines[number - 1] = f"[{_SPARE}{number}]"
        except configparser.DuplicateOptionError as error:
            number = error.lineno or 1
            mistakes.append(
                Mistake(
                    error.section,
                    error.option,
                    "",
                    f"this key is there twice, again on line {number}",
                    f"remove one of the two: sed -i {number}d {file} removes the second",
                )
            )
            lines[number - 1] = f"{_SPARE}{number} ="
        except configparser.MissingSectionHeaderError as error:
            mistakes.append(_stray(error.lineno, file, "is above the first [section]"))
            lines[error.lineno - 1] = ""
        except configparser.ParsingError as error:
            for number, _ in error.errors:
                mistakes.append(
                    _stray(number, file, "is neither [section], key = value nor # comment")
                )
                lines[number - 1] = ""
        else:
            return parser


def _stray(number: int, file: str, reason: str) -> Mistake:
    # The line itself may be a secret that lost its "=": only its number is told.
    return Mistake("", "", "", f"line {number} {reason}", f"look at it: sed -n {number}p {file}")


def _take(
    parser: configparser.ConfigParser, section: str, key: str, raw: str, into: dict[str, str]
) -> Mistake | None:
    """Put one value into a section, or say what keeps it out."""
    try:
        value = parser.get(section, key)
    except configparser.InterpolationMissingOptionError as error:
        name = str(error.reference)
        if name.startswith(_ENV):
            name = name[len(_ENV) :].upper()
            reason, fix = f"{name} is not in the environment", f"export {name}=..."
        else:
            reason, fix = f"there is no key {name} in this section", "write a plain % as %%"
        return Mistake(section, key, raw, reason, fix)
    except configparser.InterpolationError:
        return Mistake(section, key, raw, "% has a meaning of its own here", "write it as %%")
    if not value:
        fix = f"write a value, or put # before {key}"
        return Mistake(section, key, "", "has no value", fix)
    if "\n" in value:
        fix = "start the next key at the beginning of its line"
        return Mistake(section, key, value, "goes on in the next, indented line", fix)
    if _INLINE_COMMENT.search(value):
        fix = f"{key} = {_INLINE_COMMENT.split(value)[0]}".strip()
        if "***" in Mistake(section, key, value, "", "").value:
            fix = "move it"
        reason = "a comment behind a value is part of the value"
        return Mistake(section, key, value, reason, f"{fix}, with the comment on its own line")
    into[key] = value
    return None

"""One mistake in zfsiscsi.conf, told without ever telling a secret."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from cuckoo_zfsiscsi.errors import ConfigError
from cuckoo_zfsiscsi.text import printable

_SECRET = re.compile(r"pas+w|pass|pwd|secret|token|cred|apikey|api_key|private")
_SECRET_WORDS = ("password", "passphrase", "power_password", "secret", "token", "credentials")
_USERINFO = re.compile(r"^([a-z+]+://)?([^:@]*):.*@")
_NEXT_USERINFO = re.compile(r"(://[^:@/,\s]*):.*@")
"""Of a URL that is not the first: all up to the last @, as a password may hold anything."""
_SECRET_OPTION = re.compile(r"([?&][^=&]*)=[^&]*")
_LONGEST = 80


def looks_secret(key: str) -> bool:
    """Tell whether a key, perhaps misspelt, is likely to hold a secret."""
    key = key.lower()
    return bool(_SECRET.search(key) or get_close_matches(key, _SECRET_WORDS, 1, 0.75))


def shown(key: str, value: str) -> str:
    """Return what may be printed of a value: no secret, one line, not long."""
    if looks_secret(key):
        return value and "***"
    # What follows on more lines or behind a comment sign may be another key, or a note: unseen.
    first, *more = re.split(r"\n|\s[#;]", value, maxsplit=1)
    first = _USERINFO.sub(r"\1\2:***@", first)
    first = _NEXT_USERINFO.sub(r"\1:***@", first)
    first = _SECRET_OPTION.sub(
        lambda m: f"{m[1]}=***" if looks_secret(m[1][1:]) and "_file=/" not in m[0] else m[0],
        printable(first),
    )
    return first[:_LONGEST] + ("..." if more or len(first) > _LONGEST else "")


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that was probably meant."""
    return next(iter(get_close_matches(word, sorted(known), 1, 0.6)), None)


@dataclass(frozen=True)
class Mistake:
    """What is wrong, where, and what to do. The value is cut to what may be shown."""

    section: str
    key: str
    value: str
    reason: str
    """Without a full stop; completes "[section] key = value: ..."."""
    fix: str

    def __post_init__(self) -> None:
        for name in ("section", "key", "reason", "fix"):
            object.__setattr__(self, name, printable(getattr(self, name)))
        object.__setattr__(self, "value", shown(self.key, self.value))

    @property
    def where(self) -> str:
        """Return [section] key = value, as far as there is such."""
        where = f"[{self.section}]" if self.section else ""
        if self.key:
            where += f" {self.key}" + (f" = {self.value}" if self.value else "")
        return where

    def __str__(self) -> str:
        where = f"{self.where}: " if self.where else ""
        return f"{where}{self.reason}. Fix: {self.fix}"


class InvalidConfigError(ConfigError):
    """The file was read, and these are all of its mistakes."""

    def __init__(self, path: Path, mistakes: Sequence[Mistake]) -> None:
        self.mistakes = tuple(mistakes)
        count = f"{len(mistakes)} mistake{'s' if len(mistakes) > 1 else ''}"
        lines = [f"{path.name} {mistake}" for mistake in mistakes]
        super().__init__("\n".join([f"{count} in {path}", *lines]))

    @property
    def lines(self) -> tuple[str, ...]:
        """One for each mistake, below their count."""
        return tuple(self.what.split("\n"))

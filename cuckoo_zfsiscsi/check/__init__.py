"""What `zfsiscsi check` finds: in the file, on this server, in the store, at the power devices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cuckoo_zfsiscsi.errors import ZfsIscsiError

Level = Literal["ok", "info", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    """One line of the outcome."""

    level: Level
    where: str
    """Section and key, or what was looked at."""
    what: str
    """Without a full stop."""
    fix: str = ""

    def __str__(self) -> str:
        fix = f". Fix: {self.fix}" if self.fix else ""
        return f"{self.where}: {self.what}{fix}"


def failed(where: str, error: ZfsIscsiError, *, fix: str) -> Finding:
    """Return the finding of an error.

    Args:
        where: it happened.
        error: it.
        fix: what to do if the error itself does not say.
    """
    return Finding("error", where, error.what, error.fix or fix)

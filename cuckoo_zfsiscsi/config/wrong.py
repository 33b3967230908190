"""What a validator of one value raises."""

from __future__ import annotations


class WrongValueError(ValueError):
    """A value can't be used.

    Args:
        reason: without a full stop, and without the value.
        fix: what to write instead; "" for "write it like the key's example".
    """

    def __init__(self, reason: str, fix: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.fix = fix

"""A host without a power device: people press its button."""

from __future__ import annotations

from typing import NoReturn

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import PowerError
from cuckoo_zfsiscsi.power import PowerState, Proof


class Unswitched:
    """Implements Power: knows nothing, switches nothing.

    Args:
        label: of the host.
    """

    def __init__(self, label: str) -> None:
        self._label = label

    def on(self, *, deadline: Deadline) -> Proof:
        """As Power has it: raises PowerError."""
        self._no(deadline)

    def off(self, *, deadline: Deadline) -> Proof:
        """As Power has it: raises PowerError."""
        self._no(deadline)

    def status(self, *, deadline: Deadline) -> PowerState:
        """As Power has it: raises PowerError."""
        self._no(deadline)

    def forget_refusals(self) -> None:
        """As Power has it: there are none."""

    def _no(self, _deadline: Deadline) -> NoReturn:
        raise PowerError(
            f"{self._label} has no power device",
            fix=f"press its button; or set power in [{self._label}] of zfsiscsi.conf",
        )

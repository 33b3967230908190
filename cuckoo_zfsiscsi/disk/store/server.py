"""Which server this is: told from others, also from its clone.

Servers that are copies of one template share what is on their disk: name, /etc/machine-id and
/etc/hostid, which ZFS' multihost goes by. They share neither the UUID that the firmware tells (a
hypervisor gives each machine its own) nor the addresses of their network cards.
"""

from __future__ import annotations

import contextlib
import socket
from dataclasses import dataclass
from pathlib import Path

from cuckoo_zfsiscsi.errors import DiskError

MACHINE_ID = "etc/machine-id"
PRODUCT = "sys/class/dmi/id/product_uuid"
"""Read by root alone; SMBIOS (DSP0134), 7.2.1."""
CARDS = "sys/class/net"
NOTHING = "-"
"""On record, of what is not known."""
_PERMANENT = "0"
"""Of addr_assign_type: the card's own address (Documentation/ABI/testing/sysfs-class-net)."""


@dataclass(frozen=True, slots=True)
class Server:
    """What tells a server from others, as far as it is known."""

    machine: str
    """/etc/machine-id; stays the same when the name changes."""
    name: str = ""
    product: str = ""
    """UUID that the firmware tells."""
    cards: frozenset[str] = frozenset()
    """Addresses of its network cards."""

    @classmethod
    def here(cls, root: Path = Path("/")) -> Server:
        """Return this one."""
        name = socket.gethostname()
        product = _read(root / PRODUCT).lower()
        return cls(_read(root / MACHINE_ID) or name, name, product, _cards(root / CARDS))

    def differs(self, other: Server) -> str:
        """Return why another is not this one, as words; "" if it may be."""
        if self.machine != other.machine:
            return "another server"
        if self.product and other.product and self.product != other.product:
            return "a clone of this server: its firmware has another UUID"
        if self.cards and other.cards and not self.cards & other.cards:
            return "a clone of this server: it has other network cards"
        return ""

    def check_owner(self, had: Server | None, store: object, fix: str) -> None:
        """Refuse a store that another server has, or has not given up.

        Args:
            had: who has it, by the store's own record; None: nobody.
            store: its place, for people.
            fix: how to take it, once that server is off.

        Raises:
            DiskError: it is not this one's.
        """
        if had is not None and (who := self.differs(had)):
            raise DiskError(
                f"the store {store} is in use by {who}, {had.name}, or was when that one went down",
                fix=f"see to it that its service is stopped or that it is off, then: {fix}",
            )

    @classmethod
    def parse(cls, text: str) -> Server | None:
        """Read what str() wrote, or an earlier version without product and cards; None of ""."""
        words = ["" if word == NOTHING else word for word in text.split(" ")]
        machine, name, product, cards = [*words, "", "", ""][:4]
        return (
            cls(machine, name, product, frozenset(filter(None, cards.split(",")))) if text else None
        )

    def __str__(self) -> str:
        """Return it as it is put on record: in one line."""
        words = (self.machine, self.name, self.product, ",".join(sorted(self.cards)))
        return " ".join(word or NOTHING for word in words)


def _read(path: Path) -> str:
    with contextlib.suppress(OSError, ValueError):
        return path.read_text(encoding="ascii").strip()
    return ""


def _cards(place: Path) -> frozenset[str]:
    """Return the addresses that are the cards' own: those of bridges and VLANs are made up."""
    found = set()
    with contextlib.suppress(OSError):
        for card in place.iterdir():
            if (card / "device").exists() and _read(card / "addr_assign_type") == _PERMANENT:
                found.add(_read(card / "address").lower())
    return frozenset(found - {""})

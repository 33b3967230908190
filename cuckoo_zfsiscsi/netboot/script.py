"""The iPXE script that boots one generation of a host's disk (https://ipxe.org/cmd/sanboot)."""

from __future__ import annotations

from cuckoo_zfsiscsi.disk.target import Export
from cuckoo_zfsiscsi.netboot import plain, render_template

LONGEST_PAUSE = 10
"""Seconds between two tries, at most. They begin at one second and grow by one."""

NAME = r"[A-Za-z0-9][A-Za-z0-9._:-]*"
"""What an IQN or a user name is made of (RFC 7143 4.2.7.2); nothing that iPXE expands."""


def render(export: Export) -> str:
    """Return the script. It holds the CHAP secret: hand it to its host alone.

    Raises:
        NetbootError: a value could change the script's meaning.
    """
    who = export.credentials
    return render_template(
        "boot.ipxe.j2",
        portal=plain("the portal", export.portal, r"[0-9.]+"),
        port=int(export.port),
        lun=f"{export.lun:x}",  # iPXE reads it as hexadecimal
        target=plain("the target's IQN", export.target, NAME),
        initiator=plain("the initiator's IQN", who.initiator, NAME),
        user=plain("the CHAP user", who.user, NAME),
        secret=plain("the CHAP secret", who.secret, r"[A-Za-z0-9+/=_.-]+"),
        longest_pause=LONGEST_PAUSE,
    )

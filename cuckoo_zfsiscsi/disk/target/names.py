"""What iSCSI takes for names and secrets, whatever the target."""

from __future__ import annotations

import re

from cuckoo_zfsiscsi.disk.target import Credentials
from cuckoo_zfsiscsi.errors import TargetError

_NAME = re.compile(r"[A-Za-z0-9.:-]+")  # what tgt and RFC 7143 4.2.7.2 take


def check_names(target: str, credentials: Credentials) -> None:
    """Refuse what a target would not take, or take for something else.

    Raises:
        TargetError: it never shows a secret.
    """
    who = credentials
    names, hidden = [target, who.initiator, who.user], [who.secret]
    if who.reverse_user:
        names.append(who.reverse_user)
        hidden.append(who.reverse_secret)
    for what, shown in [*((n, repr(n)) for n in names), *((s, "the CHAP secret") for s in hidden)]:
        if not _NAME.fullmatch(what):
            raise TargetError(
                f"{shown} can't be used with iSCSI", fix="letters, digits, '.', ':' and '-' only"
            )

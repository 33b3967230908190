"""What tgt takes for names, and the name that a disk has for its guest."""

from __future__ import annotations

import hashlib
import re

from cuckoo_zfsiscsi.disk.store import Disk
from cuckoo_zfsiscsi.disk.target import Credentials
from cuckoo_zfsiscsi.errors import TargetError

_NAME = re.compile(r"[A-Za-z0-9.:-]+")  # what tgt and RFC 7143 take for names


def check_names(disk: Disk, name: str, credentials: Credentials) -> None:
    """Refuse what tgtd would not take, or take for something else."""
    for what in (name, credentials.initiator, credentials.user, credentials.secret):
        if not _NAME.fullmatch(what):
            shown = "the CHAP secret" if what is credentials.secret else repr(what)
            raise TargetError(
                f"{shown} can't be used with iSCSI", fix="letters, digits, '.', ':' and '-' only"
            )
    if "," in str(disk.path):
        raise TargetError(f"tgtd can't export {disk.path}", fix="choose a path without a comma")


def identities(host: str, lun: int) -> list[tuple[int, str]]:
    """Return how the disk shows itself: as an ordinary one, the same at each boot of a host."""
    serial = "S5Y1NX" + hashlib.sha256(host.encode()).hexdigest()[:9].upper()
    disk = (
        f"targetOps vendor_id=ATA,product_id=Samsung SSD 870,product_rev=SVT0,scsi_sn={serial},"
        f"scsi_id=ATA     Samsung SSD 870 {serial[-12:]},rotation_rate=1,"
    )
    controller = "targetOps vendor_id=ATA,product_id=Controller,product_rev=SVT0,"
    return [(0, controller), (lun, disk)]

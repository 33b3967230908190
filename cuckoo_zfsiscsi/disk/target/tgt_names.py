"""What tgt is told of a disk: its path, and how it shows itself."""

from __future__ import annotations

from pathlib import Path

from cuckoo_zfsiscsi.disk.target.identity import Identity
from cuckoo_zfsiscsi.errors import TargetError


def check_path(path: Path) -> None:
    """Refuse what tgtd would take for something else.

    Raises:
        TargetError: it would.
    """
    if "," in str(path):
        raise TargetError(f"tgtd can't export {path}", fix="choose a path without a comma")


def identities(shown: Identity, lun: int) -> list[tuple[int, str]]:
    """Return how the disk, and the controller that tgt has on LUN 0, show themselves."""
    vendor, revision = f"vendor_id={shown.vendor}", f"product_rev={shown.revision}"
    disk = (
        f"targetOps {vendor},product_id={shown.model},{revision},scsi_sn={shown.serial},"
        f"scsi_id={shown.vendor:8}{shown.model} {shown.serial[-12:]},rotation_rate=1,"
    )
    return [(0, f"targetOps {vendor},product_id=Controller,{revision},"), (lun, disk)]

"""How a disk shows itself, as tgt is told."""

from __future__ import annotations

from cuckoo_zfsiscsi.disk.target.identity import Identity


def identities(shown: Identity, lun: int) -> list[tuple[int, str]]:
    """Return how the disk, and the controller that tgt has on LUN 0, show themselves."""
    vendor, revision = f"vendor_id={shown.vendor}", f"product_rev={shown.revision}"
    disk = (
        f"targetOps {vendor},product_id={shown.model},{revision},scsi_sn={shown.serial},"
        f"scsi_id={shown.vendor:8}{shown.model} {shown.serial[-12:]},rotation_rate=1,"
    )
    return [(0, f"targetOps {vendor},product_id=Controller,{revision},"), (lun, disk)]

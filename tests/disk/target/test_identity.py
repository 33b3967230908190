from __future__ import annotations

from pathlib import Path

import pytest

from cuckoo_zfsiscsi.disk.drivers import make_target
from cuckoo_zfsiscsi.disk.target.identity import Identity, made_up_serial
from cuckoo_zfsiscsi.disk.target.lio import LioTarget
from cuckoo_zfsiscsi.disk.target.tgt import TgtTarget
from cuckoo_zfsiscsi.disk.target.tgt_names import identities
from tests.config.sample import edit, read

NAMED = (
    "disk_vendor = Seagate\ndisk_model = ST1000DM010\ndisk_revision = CC43\ndisk_serial = ZN1A\n"
)


def test_serials_are_the_same_each_time_and_no_other_hosts() -> None:
    assert made_up_serial("pc1") == made_up_serial("pc1") != made_up_serial("pc2")
    assert len(made_up_serial("pc1")) == 15


@pytest.mark.parametrize(
    ("vendor", "model", "company"),
    [
        ("ATA", "Samsung SSD 870", 0x002538),
        ("ATA", "WDC WD10EZEX-08W", 0x0014EE),
        ("Seagate", "ST1000DM010", 0x000C50),
        ("ATA", "no such maker", 0x002538),
    ],
)
def test_the_maker_has_a_number(vendor: str, model: str, company: int) -> None:
    assert Identity("1", vendor, model).company == company


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ((), TgtTarget),
        ((("[storage]\n", "[storage]\nstore = zfs\npool = tank\ntarget = lio\n"),), LioTarget),
    ],
)
def test_the_configuration_names_the_disks(
    tmp_path: Path, changes: tuple[tuple[str, str], ...], kind: type[TgtTarget | LioTarget]
) -> None:
    text = edit(("label = pc1\n", f"label = pc1\n{NAMED}"), *changes)
    target = make_target(read(tmp_path, text))
    assert isinstance(target, kind)
    assert target._identity("pc1") == Identity("ZN1A", "Seagate", "ST1000DM010", "CC43")
    unnamed = Identity(made_up_serial("pc2"), "ATA", "Samsung SSD 870", "SVT0")
    assert target._identity("pc2") == unnamed
    assert target._identity("pc3").serial == made_up_serial("pc3")


def test_tgt_is_told() -> None:
    (_, controller), (lun, disk) = identities(Identity("ZN1A", "Seagate", "ST10", "CC43"), 1)
    assert lun == 1
    assert "vendor_id=Seagate,product_id=ST10,product_rev=CC43,scsi_sn=ZN1A," in disk
    assert "scsi_id=Seagate ST10 ZN1A," in disk
    assert controller == "targetOps vendor_id=Seagate,product_id=Controller,product_rev=CC43,"

"""What a disk tells its guest of itself: malware looks for the storage server's name."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cuckoo_zfsiscsi.disk.target.identity import Identity, made_up_serial
from cuckoo_zfsiscsi.disk.target.lio import LioTarget
from cuckoo_zfsiscsi.errors import TargetError
from tests.iscsi import Initiator, raw
from tests.zfs.target.lio import MakeDisk, export, fence, make_target, opened

SHOWN = Identity("ZN1A2B3C", "Seagate", "ST1000DM010-2EP1", "CC43")
TELLING = (b"LIO", b"IBLOCK", b"ibfile", b"Linux", b"001405")


def pages(target: LioTarget, make_disk: MakeDisk, generation: int = 1) -> dict[int | None, bytes]:
    found = export(target, make_disk(generation=generation))
    with Initiator(found) as initiator:
        shown = {page: initiator.inquiry(page) for page in (None, 0x00, 0x80, 0x83)}
    fence(target)
    return shown


def test_looks_like_an_ordinary_disk_and_the_same_at_each_boot(
    target: LioTarget, make_disk: MakeDisk
) -> None:
    seen = [pages(target, make_disk, generation) for generation in (1, 2)]
    assert seen[0] == seen[1]
    shown = seen[0]
    assert shown[None][8:36] == b"ATA     Samsung SSD 870 SVT0"
    assert shown[0x80][4:].rstrip(b"\0") == made_up_serial("pc1").encode()
    name = shown[0x83][8:24]  # NAA IEEE registered extended (SPC-4, 7.8.6.6)
    assert (name[0] >> 4, int.from_bytes(name[:4], "big") >> 4 & 0xFFFFFF) == (6, 0x002538)
    assert b"ATA     Samsung SSD 870:" in shown[0x83]
    assert not [word for word in TELLING if any(word in page for page in shown.values())]


def test_looks_as_the_configuration_says(make_disk: MakeDisk, port: int) -> None:
    with opened(make_target(port, identities={"pc1": SHOWN})) as target:
        shown = pages(target, make_disk)
    assert shown[None][8:36] == b"Seagate ST1000DM010-2EP1CC43"
    assert shown[0x80][4:].rstrip(b"\0") == b"ZN1A2B3C"


@pytest.mark.parametrize("key", ["vendor", "model", "revision"])
def test_what_does_not_fit_is_refused(make_disk: MakeDisk, port: int, key: str) -> None:

    shown = {"pc1": replace(SHOWN, **{key: "x" * 17})}
    refused = pytest.raises(TargetError, match=r"taking /dev/zd\d+ for pc1")
    with opened(make_target(port, identities=shown)) as target, refused:
        pages(target, make_disk)


def test_the_target_does_not_say_whose_it_is(target: LioTarget, make_disk: MakeDisk) -> None:
    found = export(target, make_disk())
    with raw(found) as initiator:
        answer = initiator.begin()
    assert answer["TargetAlias"] == "disk"

"""What went wrong in experiments with ZFS and the kernel's target: none of it may come back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.disk.target.identity import made_up_serial
from cuckoo_zfsiscsi.disk.target.lio import LioTarget
from cuckoo_zfsiscsi.disk.target.lio_backstore import Backstore
from cuckoo_zfsiscsi.disk.target.lio_kernel import TARGET
from tests.iscsi import Initiator, LoginError, raw
from tests.zfs.device import write
from tests.zfs.rig import Guest
from tests.zfs.target.lio import (
    IQN,
    MakeDisk,
    backstore,
    export,
    fence,
    first_block,
    group,
    prepare,
    release,
)

DEAD = r"SCSI status|no answer"


def aptpl(host: str = "pc1") -> Path:
    """Return where the kernel keeps a reservation that is to survive a power loss."""
    root = (TARGET / "dbroot").read_text().strip()
    return Path(root, "pr", f"aptpl_{made_up_serial(host)}")


def reservation(found: Backstore) -> str:
    return (found.path / "pr/res_holder").read_text()


def test_no_session_outlives_a_fence_so_a_rollback_is_never_silent(
    target: LioTarget, make_disk: MakeDisk
) -> None:
    disk = make_disk()
    with Initiator(export(target, disk)) as initiator:
        initiator.write(0, b"1" * 512)
        fence(target)
        assert target.sessions("pc1") == []
        statistics = group().parent / "fabric_statistics/iscsi_instance/sessions"
        assert statistics.read_text().strip() == "0"
        write(disk.path, 0, b"0" * 512)  # the same disk, as a rollback restores it
        with pytest.raises(OSError, match=DEAD):
            initiator.write(0, b"2" * 512)
    assert first_block(disk) == b"0" * 512


def test_without_its_lun_no_guest_reads_zeros(target: LioTarget, make_disk: MakeDisk) -> None:
    disk = make_disk()
    with Initiator(export(target, disk)) as initiator:
        release(target)  # the exported disk stays
        assert initiator.read(0) == first_block(disk)
        fence(target)
        release(target)
        with pytest.raises(OSError, match=DEAD):
            initiator.read(0)


@pytest.mark.parametrize("same_disk", [False, True])
def test_the_old_secret_is_refused(target: LioTarget, make_disk: MakeDisk, same_disk: bool) -> None:
    disk = make_disk()
    old = export(target, disk)
    with Initiator(old):
        pass
    fence(target)
    following = replace(disk if same_disk else make_disk(), generation=2)
    with pytest.raises(LoginError):
        Initiator(old)
    new = export(target, following, 1)
    for wrong in (old, replace(new, credentials=old.credentials)):
        with pytest.raises(LoginError):
            Initiator(wrong)
    with pytest.raises(LoginError):
        Initiator(new, secret=old.credentials.secret)
    with Initiator(new) as initiator:
        assert initiator.read(0) == first_block(following)
        assert [s.initiator for s in target.sessions("pc1")] == [f"{IQN}:pc1.g2"]


@pytest.mark.parametrize("same_disk", [False, True])
def test_a_reservation_ends_with_its_generation(
    target: LioTarget, make_disk: MakeDisk, same_disk: bool
) -> None:
    disk = make_disk()
    guest = Guest(export(target, disk))
    with guest:
        guest.reserve()
        held = Backstore(backstore(disk), disk.path, 0)
        assert held.is_reserved
        assert "No" not in reservation(held)
        fence(target)
    if same_disk:
        assert not held.is_reserved, "removing the ACL did not clear it"
    following = replace(disk if same_disk else make_disk(), generation=2)
    guest = Guest(export(target, following, 1))
    with guest:
        found = Backstore(backstore(following), following.path, 0)
        assert not found.is_reserved
        assert not aptpl().exists()
        guest.write(0, b"2" * 512)
        guest.reserve()


def test_what_is_still_reserved_is_taken_anew(
    target: LioTarget, make_disk: MakeDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = make_disk()
    prepare(target, disk)
    before = backstore(disk).stat().st_ino
    answers = iter([True])
    with monkeypatch.context() as patch:
        reserved = property(lambda _self: next(answers, False))
        patch.setattr(Backstore, "is_reserved", reserved)
        found = export(target, disk)
    assert backstore(disk).stat().st_ino != before
    with Initiator(found) as initiator:
        initiator.write(0, b"2" * 512)


def test_no_record_restores_a_reservation(target: LioTarget, make_disk: MakeDisk) -> None:
    aptpl().parent.mkdir(parents=True, exist_ok=True)
    aptpl().write_text(
        f"PR_REG_START: 0\ninitiator_fabric=iSCSI\ninitiator_node={IQN}:pc1.g1\n"
        "sa_res_key=2989\nres_holder=1\nres_type=03\nres_scope=00\nres_all_tg_pt=0\n"
        f"mapped_lun=0\ntarget_fabric=iSCSI\ntarget_node={IQN}:pc1\ntpgt=1\nport_rtpi=1\n"
        "target_lun=0\nPR_REG_END: 0\n"
    )
    disk = make_disk()
    with Initiator(export(target, disk)) as initiator:
        initiator.write(0, b"1" * 512)
    assert not Backstore(backstore(disk), disk.path, 0).is_reserved
    assert not aptpl().exists()


def test_what_the_guest_wrote_is_on_the_device_not_in_a_cache(
    target: LioTarget, make_disk: MakeDisk
) -> None:
    disk = make_disk()
    disk.path.read_bytes()  # the page cache of the server has it
    with Initiator(export(target, disk)) as initiator:
        initiator.write(0, b"n" * 512)
        assert first_block(disk) == b"n" * 512
        assert initiator.read(0) == b"n" * 512
    info = (backstore(disk) / "info").read_text()
    assert "iBlock" in info


def test_closing_one_disk_leaves_the_exported_one_mapped(
    target: LioTarget, make_disk: MakeDisk
) -> None:
    disk, old = make_disk(generation=2), make_disk()
    prepare(target, old)
    with Initiator(export(target, disk)) as initiator:
        release(target, disk)
        initiator.write(0, b"a" * 512)
    assert first_block(disk) == b"a" * 512


def test_a_siblings_name_is_refused(target: LioTarget, make_disk: MakeDisk) -> None:
    one, two = export(target, make_disk()), export(target, make_disk("pc2"), 1)
    for claim in (
        replace(one, target=two.target),
        replace(two, target=one.target),
        replace(one, credentials=replace(one.credentials, initiator=two.credentials.initiator)),
        replace(two, credentials=replace(one.credentials, initiator=two.credentials.initiator)),
    ):
        with pytest.raises(LoginError):
            Initiator(claim)
    assert target.sessions("pc1") == target.sessions("pc2") == []


def test_the_same_name_twice_leaves_no_session(target: LioTarget, make_disk: MakeDisk) -> None:
    found = export(target, make_disk())
    with Initiator(found) as first, Initiator(found) as second:
        first.read(0)
        second.read(0)
        fence(target)
        for one in (first, second):
            with pytest.raises(OSError, match=DEAD):
                one.read(0)


def test_a_session_that_is_made_anew_is_dropped_too(target: LioTarget, make_disk: MakeDisk) -> None:
    found = export(target, make_disk())
    with raw(found) as first, raw(found) as second:
        for one in (first, second):  # the same ISID: the second takes the first one's place
            one.security()
            one.finish()
        assert len(target.sessions("pc1")) == 1
        fence(target)
        assert target.sessions("pc1") == []


def test_discovery_tells_nobody_of_other_hosts(target: LioTarget, make_disk: MakeDisk) -> None:
    one = export(target, make_disk())
    export(target, make_disk("pc2"))
    for name in (one.credentials.initiator, "iqn.2026-01.org.example:stranger"):
        with raw(one) as peer:
            told = peer.discover(name)
        assert b"pc2" not in told
        assert (b"pc1" in told) == (name == one.credentials.initiator)

from __future__ import annotations

import dataclasses
import os
import subprocess
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.deadline import Cancel, Deadline
from cuckoo_zfsiscsi.disk.reset import SECRET_LENGTH, Reset, arm, reset
from cuckoo_zfsiscsi.disk.store import Disk
from cuckoo_zfsiscsi.disk.store.facts import opened_by, unprotect
from cuckoo_zfsiscsi.disk.store.file import FileStore
from cuckoo_zfsiscsi.disk.target import Export
from cuckoo_zfsiscsi.disk.target.tgt import TgtTarget
from cuckoo_zfsiscsi.errors import (
    CancelledError,
    DiskError,
    ImageError,
    TargetError,
    UnprovenDiskError,
)
from tests.disk.content import poke, spare
from tests.iscsi import Initiator, LoginError
from tests.waiting import HANG

WORM = b"worm" * 128


@dataclasses.dataclass
class Host:
    """What the service does with one host, with the real parts."""

    store: FileStore
    target: TgtTarget

    def reset(self, image: str = "win10") -> Reset:
        return reset(self.store, self.target, "pc1", image, deadline=Deadline(HANG))

    def arm(self, disk: Disk) -> Export:
        return arm(self.store, self.target, disk, deadline=Deadline(HANG))


@pytest.fixture
def host(store: FileStore, target: TgtTarget, win10: Path) -> Host:
    assert win10.exists()
    return Host(store, target)


def test_what_a_run_wrote_is_never_in_the_next(host: Host, win10: Path) -> None:
    clean, seen, generations = win10.read_bytes(), [], []
    for run in range(3):
        done = host.reset()
        generations.append(done.disk.generation)
        assert list(done.seconds) == ["fence", "swap", "prove"]
        assert done.disk.path.read_bytes() == clean
        export = host.arm(done.disk)
        seen.append(export.credentials)
        with Initiator(export) as guest:
            assert guest.read(0) == clean[:512]
            assert guest.read(4096) == bytes(512)
            guest.write(0, WORM)
            guest.write(4096, WORM)
            guest.sync()
            if run == 1:  # a guest that is not even off
                done = host.reset()
                with pytest.raises(OSError, match=r"BUS_RESET|no answer"):
                    guest.write(0, WORM)
                assert done.disk.path.read_bytes() == clean
    assert generations == [1, 2, 4]
    assert len({(who.initiator, who.user, who.secret) for who in seen}) == len(seen)
    assert all(len(who.secret) == SECRET_LENGTH and who.secret.isalnum() for who in seen)


def test_an_armed_disk_is_never_proven_again(host: Host) -> None:
    disk = host.reset().disk
    host.arm(disk)
    with pytest.raises(UnprovenDiskError, match="armed before"):
        host.store.prove(disk, deadline=Deadline(HANG))
    host.target.fence("pc1", deadline=Deadline(HANG))
    with pytest.raises(UnprovenDiskError):
        host.arm(disk)


def test_an_unproven_disk_is_never_exported(host: Host) -> None:
    disk = host.reset().disk
    poke(disk.path, 3 << 20)
    with pytest.raises(UnprovenDiskError):
        host.arm(disk)
    assert opened_by(disk.path) == ""
    assert host.target.sessions("pc1") == []


def test_what_can_not_be_tainted_is_never_exported(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = host.reset().disk

    def taint(_disk: Disk) -> None:
        raise DiskError("the record can't be written")

    monkeypatch.setattr(host.store, "taint", taint)
    with pytest.raises(DiskError, match="can't be written"):
        host.arm(disk)
    assert opened_by(disk.path) == ""


def test_nothing_is_swapped_under_a_host_that_is_not_fenced(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = host.reset().disk

    def fence(_host: str, *, deadline: Deadline) -> None:
        raise TargetError(f"a session is still there after {deadline.seconds} s")

    monkeypatch.setattr(host.target, "fence", fence)
    with pytest.raises(TargetError, match="still there"):
        host.reset()
    assert host.store.current("pc1") == before


def test_a_host_is_fenced_whatever_the_store_says(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    export = host.arm(host.reset().disk)

    def begin_swap(_host: str, _image: str, *, deadline: Deadline) -> None:
        raise DiskError(f"no answer within {deadline.seconds} s")

    monkeypatch.setattr(host.store, "begin_swap", begin_swap)
    with Initiator(export) as guest:
        with pytest.raises(DiskError, match="no answer"):
            host.reset()
        with pytest.raises(OSError, match=r"BUS_RESET|no answer"):
            guest.read(0)


def test_a_changed_image_boots_nobody(host: Host) -> None:
    spare(host.store)
    path = host.store.path / "images/win10/1.raw"
    unprotect(path)
    stat = path.stat()
    poke(path, 3 << 20)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with pytest.raises(UnprovenDiskError, match="not what was sealed"):
        host.reset()
    with pytest.raises(ImageError, match="not what was sealed"):
        host.reset()


def test_tells_each_step_and_can_be_cancelled_between(host: Host) -> None:
    steps: list[str] = []
    cancel = Cancel()

    def on_step(name: str) -> None:
        steps.append(name)
        cancel.set("stop")

    with pytest.raises(CancelledError):
        reset(
            host.store,
            host.target,
            "pc1",
            "win10",
            deadline=Deadline(HANG, cancel),
            on_step=on_step,
        )
    assert steps == ["fence"]  # and no more: what was asked for by then is not begun
    assert host.store.current("pc1") is None
    reset(host.store, host.target, "pc1", "win10", deadline=Deadline(HANG), on_step=steps.append)
    assert steps == ["fence", "fence", "swap", "prove"]


def test_other_initiators_agree(host: Host) -> None:
    export = host.arm(host.reset().disk)
    who = export.credentials
    url = f"iscsi://{who.user}%{who.secret}@{export.portal}:{export.port}/{export.target}/{export.lun}"
    argv = ["iscsi-inq", "-i", who.initiator, url]
    shown = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    assert "Vendor:ATA" in shown
    assert "Product:Samsung SSD 870" in shown
    refused = subprocess.run(["iscsi-inq", "-i", who.initiator + "0", url], capture_output=True,
                             check=False)  # fmt: skip
    assert refused.returncode != 0
    host.reset()
    again = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert again.returncode != 0
    with pytest.raises(LoginError):
        Initiator(export)

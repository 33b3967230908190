from __future__ import annotations

import subprocess
import sys
import threading
import time
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.deadline import Cancel, Deadline
from cuckoo_zfsiscsi.disk.reset import new_credentials
from cuckoo_zfsiscsi.disk.target import Credentials
from cuckoo_zfsiscsi.disk.target.lio import LioTarget
from cuckoo_zfsiscsi.disk.target.lio_kernel import entries
from cuckoo_zfsiscsi.errors import CancelledError, DeadlineExceededError, TargetError
from tests.iscsi import Initiator, LoginError, raw
from tests.waiting import HANG
from tests.zfs.target.lio import (
    IQN,
    SECRET,
    MakeDisk,
    backstore,
    backstores,
    export,
    fence,
    first_block,
    group,
    make_target,
    opened,
    prepare,
    release,
    wait_for_logout,
)

DEAD = r"SCSI status|no answer"


def test_the_holder_of_the_credentials_has_the_disk(target: LioTarget, make_disk: MakeDisk) -> None:
    disk = make_disk()
    found = export(target, disk)
    assert (found.target, found.lun) == (f"{IQN}:pc1", 0)
    assert found.credentials.initiator == f"{IQN}:pc1.g1"
    assert target.sessions("pc1") == []
    with Initiator(found) as initiator:
        assert initiator.read(0) == first_block(disk)
        initiator.write(8, b"w" * 512)
        assert initiator.read(8) == b"w" * 512
        initiator.write(0, b"v" * 512)
        assert [(s.initiator, s.address) for s in target.sessions("pc1")] == [
            (found.credentials.initiator, "127.0.0.1")
        ]
    assert first_block(disk) == b"v" * 512
    wait_for_logout(target)


def test_the_target_proves_itself_too(target: LioTarget, make_disk: MakeDisk) -> None:
    disk = make_disk()
    who = new_credentials(target, disk, mutual=True)
    found = target.export(disk, who, deadline=Deadline(30))
    with Initiator(found) as initiator:
        assert initiator.read(0) == first_block(disk)
    with pytest.raises(LoginError):
        Initiator(found, reverse_secret="a" * 16)
    fence(target)
    found = export(target, make_disk(generation=2))
    claimed = replace(found.credentials, reverse_user="pc1.g1.target", reverse_secret="b" * 16)
    with pytest.raises(LoginError):
        Initiator(replace(found, credentials=claimed))


def test_each_network_has_its_portal_and_no_other(make_disk: MakeDisk, port: int) -> None:
    where = {"pc1": IPv4Address("127.0.0.1"), "pc2": IPv4Address("127.0.0.2")}
    with opened(make_target(port, portals=where)) as target:
        found = [export(target, make_disk(label)) for label in where]
        assert [one.portal for one in found] == ["127.0.0.1", "127.0.0.2"]
        for one, other in (found, found[::-1]):
            with Initiator(one):
                pass
            with pytest.raises(LoginError):
                Initiator(replace(one, portal=other.portal))
        fence(target, "pc2")
        with Initiator(found[0]):
            assert len(target.sessions("pc1")) == 1
    missing = make_target(port, portals={"pc1": IPv4Address("192.0.2.1")})
    with pytest.raises(TargetError, match=r"no address 192\.0\.2\.1"):
        missing.open(deadline=Deadline(30))


def test_each_login_has_another_number(target: LioTarget, make_disk: MakeDisk) -> None:
    found = export(target, make_disk())
    seen = set()
    for _ in range(3):
        with Initiator(found):
            seen |= {session.number for session in target.sessions("pc1")}
    assert len(seen) == 3


def test_who_has_not_all_of_them_is_refused(target: LioTarget, make_disk: MakeDisk) -> None:
    found = export(target, make_disk())
    for wrong in (
        {"name": f"{IQN}:pc1.g2"},
        {"name": f"{IQN}:pc1"},
        {"user": "pc1.g2"},
        {"secret": "a" * 16},
    ):
        with pytest.raises(LoginError):
            Initiator(found, **wrong)
    with raw(found) as initiator, pytest.raises(LoginError):
        initiator.finish()  # without any CHAP
    assert target.sessions("pc1") == []
    with Initiator(found):
        pass


def test_prepared_ahead_and_still_nobody_can_log_in(target: LioTarget, make_disk: MakeDisk) -> None:
    current, spare = make_disk(), make_disk(generation=2)
    found = export(target, current)
    prepare(target, spare)
    prepare(target, spare)
    assert len(backstores()) == len(entries(group() / "lun")) == 2
    with pytest.raises(LoginError):
        Initiator(replace(found, credentials=Credentials(target.initiator(spare), "x", SECRET)))
    with Initiator(found) as initiator:
        with pytest.raises(OSError, match="SCSI status"):
            initiator.inquiry(0x80, lun=1)  # one LUN is what a guest sees
        before = first_block(spare)
        initiator.write(0, b"c" * 512)
        assert first_block(spare) == before
        fence(target)
    there = {path: path.stat().st_ino for path in (*backstores(), *entries(group() / "lun"))}
    with Initiator(export(target, spare)) as initiator:
        assert initiator.read(0) == before
    now = {path: path.stat().st_ino for path in (*backstores(), *entries(group() / "lun"))}
    assert now == there, "an export of a prepared disk made something anew"


def test_released_means_that_the_store_can_have_it(target: LioTarget, make_disk: MakeDisk) -> None:
    disks = [make_disk(generation=number) for number in (1, 2, 3)]
    other = make_disk("pc2")
    for disk in (*disks, other):
        prepare(target, disk)
    export(target, disks[0])
    release(target, disks[1])
    assert {path.name for path in backstores()} == {
        f"zfsiscsi-pc1-{disk.path.name}" for disk in disks[:2]
    }
    assert len(entries(group() / "lun")) == 2
    with disks[2].path.open("rb") as file:
        subprocess.run(["blockdev", "--getsize64", file.name], check=True, capture_output=True)
    fence(target)
    release(target)
    assert backstores() == entries(group() / "lun") == []
    assert len(backstores("pc2")) == 1
    release(target)
    prepare(target, disks[0])
    with Initiator(export(target, disks[0])) as initiator:
        assert initiator.read(0) == first_block(disks[0])


def test_a_disk_that_someone_else_holds_is_not_released(
    target: LioTarget, make_disk: MakeDisk
) -> None:
    disk = make_disk()
    prepare(target, disk)
    held = backstore(disk)
    (group("other") / "..").resolve()
    with pytest.raises(TargetError, match=r"taking /dev/zd\d+ for pc2: .*busy"):
        prepare(target, replace(disk, host="pc2"))
    assert held.is_dir()
    assert backstores("pc2") == []


def test_only_a_fenced_host_gets_an_export(target: LioTarget, make_disk: MakeDisk) -> None:
    export(target, make_disk())
    with pytest.raises(TargetError, match="pc1 is not fenced"):
        export(target, make_disk(generation=2))


def test_fence_drops_a_session_that_writes_all_the_time(
    target: LioTarget, make_disk: MakeDisk
) -> None:
    disk = make_disk()
    found = export(target, disk)
    code = (
        "import sys; from cuckoo_zfsiscsi.disk.target import *; from tests.iscsi import *\n"
        "p, t, i, u, s = sys.argv[1:]\n"
        "w = Initiator(Export('127.0.0.1', int(p), t, 0, Credentials(i, u, s)))\n"
        "n = 0\n"
        "while True: n += 1; w.write(0, n.to_bytes(4, 'big') * 16384); print('w', flush=True)\n"
    )
    who = found.credentials
    argv = ["-c", code, str(found.port), found.target, who.initiator, who.user, who.secret]
    with subprocess.Popen(
        [sys.executable, *argv], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as writer:
        assert writer.stdout is not None
        for _ in range(5):
            assert writer.stdout.readline() == b"w\n"
        fence(target)
        content = first_block(disk)
        writer.stdout.read()
        writer.wait(HANG)
    assert first_block(disk) == content


def test_fence_drops_a_host_that_lost_power_while_it_read(
    target: LioTarget, make_disk: MakeDisk
) -> None:
    found = export(target, make_disk())
    with raw(found) as initiator:
        initiator.security()
        initiator.finish()
        assert len(target.sessions("pc1")) == 1
        initiator.ask_much(64)
        time.sleep(0.3)
        fence(target)
        assert target.sessions("pc1") == []


def test_hosts_are_apart(target: LioTarget, make_disk: MakeDisk) -> None:
    one, two = export(target, make_disk()), export(target, make_disk("pc2"))
    with pytest.raises(LoginError):
        Initiator(replace(two, credentials=one.credentials))
    with Initiator(one) as first, Initiator(two) as second:
        fence(target, "pc1")
        with pytest.raises(OSError, match=DEAD):
            first.read(0)
        second.read(0)
        assert len(target.sessions("pc2")) == 1
    assert target.sessions("unknown") == []
    fence(target, "unknown")


def test_several_hosts_at_once(target: LioTarget, make_disk: MakeDisk) -> None:
    hosts = [f"pc{number}" for number in range(1, 6)]
    disks = {host: [make_disk(host, 1), make_disk(host, 2)] for host in hosts}
    failed = []

    def cycle(host: str) -> None:
        try:
            for generation in range(1, 7):
                disk = replace(disks[host][generation % 2], generation=generation)
                fence(target, host)
                with Initiator(export(target, disk, generation % 10)) as initiator:
                    initiator.write(0, f"{host} {generation}".ljust(512).encode())
                    assert [s.initiator for s in target.sessions(host)] == [target.initiator(disk)]
                    prepare(target, replace(disks[host][(generation + 1) % 2]))
                    fence(target, host)
                release(target, disks[host][(generation + 1) % 2], host=host)
                assert first_block(disk).decode().split() == [host, str(generation)]
        except BaseException as error:
            failed.append((host, error))
            raise

    threads = [threading.Thread(target=cycle, args=[host]) for host in hosts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(HANG)
    assert failed == []


def test_a_failed_export_leaves_nothing(target: LioTarget, make_disk: MakeDisk) -> None:
    disk = make_disk()
    with pytest.raises(TargetError, match=r"taking /dev/zvol/none for pc1: .*No such file"):
        export(target, replace(disk, path=Path("/dev/zvol/none")))
    with Initiator(export(target, disk)):
        pass


def test_files_are_not_exported(target: LioTarget, make_disk: MakeDisk, tmp_path: Path) -> None:
    path = tmp_path / "disk.raw"
    path.write_bytes(bytes(1 << 20))
    with pytest.raises(TargetError, match=r"disk\.raw: it is no block device"):
        export(target, replace(make_disk(), path=path))
    assert backstores() == []


@pytest.mark.parametrize("host", ["pc_1", "pc 1", "pc,1", "pc1\n", "../pc1"])
def test_names_that_iscsi_does_not_know(target: LioTarget, make_disk: MakeDisk, host: str) -> None:
    with pytest.raises(TargetError, match="can't be used with iSCSI"):
        export(target, replace(make_disk(), host=host))
    assert target.sessions(host) == []


def test_a_secret_is_never_shown(
    target: LioTarget, make_disk: MakeDisk, caplog: pytest.LogCaptureFixture
) -> None:
    disk = make_disk()
    who = Credentials(target.initiator(disk), "pc1.g1", "no, comma in it!")
    with pytest.raises(TargetError, match="the CHAP secret can't be used") as caught:
        target.export(disk, who, deadline=Deadline(5))
    assert "comma" not in str(caught.value)
    found = export(target, disk)
    assert SECRET not in repr(found)
    assert SECRET not in caplog.text
    auth = group() / "acls" / found.credentials.initiator / "auth"
    assert (auth / "password").read_text().strip() == found.credentials.secret
    modes = [group().stat(), auth.stat(), (auth / "password").stat()]
    assert modes[2].st_uid == 0


def test_closed_means_that_nothing_of_ours_is_left(target: LioTarget, make_disk: MakeDisk) -> None:
    found = export(target, make_disk())
    prepare(target, make_disk("pc2"))
    with Initiator(found) as initiator:
        target.close()
        target.close()
        with pytest.raises(OSError, match=DEAD):
            initiator.read(0)
    with pytest.raises(LoginError):
        Initiator(found)
    fence(target)


def test_fence_can_be_cancelled(target: LioTarget, make_disk: MakeDisk) -> None:
    export(target, make_disk())
    cancel = Cancel()
    cancel.set("enough")
    with pytest.raises(CancelledError):
        target.fence("pc1", deadline=Deadline(5, cancel))
    fence(target)


def test_one_host_is_changed_by_one_thread(target: LioTarget, make_disk: MakeDisk) -> None:
    with target._held("pc1", Deadline(5)):
        with pytest.raises(DeadlineExceededError, match="another change of pc1"):
            target.fence("pc1", deadline=Deadline(0.2))
        export(target, make_disk("pc2"))


def test_the_disk_is_as_big_as_its_volume(target: LioTarget, make_disk: MakeDisk) -> None:
    with Initiator(export(target, make_disk())) as initiator:
        initiator.read((8 << 20) // 512 - 1)
        with pytest.raises(OSError, match="SCSI status"):
            initiator.read((8 << 20) // 512)

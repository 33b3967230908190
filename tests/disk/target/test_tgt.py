from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import time
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.deadline import Cancel, Deadline
from cuckoo_zfsiscsi.disk.reset import new_credentials
from cuckoo_zfsiscsi.disk.store import Disk
from cuckoo_zfsiscsi.disk.target import Credentials, Export
from cuckoo_zfsiscsi.disk.target.tgt import TgtTarget
from cuckoo_zfsiscsi.disk.target.tgt_ipc import Mode, Op, RefusedError
from cuckoo_zfsiscsi.errors import CancelledError, DeadlineExceededError, TargetError
from tests.disk.content import MIB, make_raw, make_target
from tests.iscsi import Initiator, LoginError, free_port, raw
from tests.waiting import HANG, wait

SECRET = "aB3456789012345"


def make_disk(path: Path, host: str = "pc1", generation: int = 1) -> Disk:
    raw_file = make_raw(path / f"{host}-{generation}.raw")
    return Disk(host, generation, "win10@1", raw_file, "current")


def export(target: TgtTarget, disk: Disk, number: int = 0) -> Export:
    user = f"{disk.host}.g{disk.generation}"
    who = Credentials(target.initiator(disk), user, f"{SECRET}{number}")
    return target.export(disk, who, deadline=Deadline(HANG))


def fence(target: TgtTarget, host: str = "pc1") -> None:
    target.fence(host, deadline=Deadline(HANG))


def test_the_holder_of_the_credentials_has_the_disk(target: TgtTarget, tmp_path: Path) -> None:
    disk = make_disk(tmp_path)
    found = export(target, disk)
    assert found.target == "iqn.2017-10.test.disk:pc1"
    assert found.lun == 1
    assert found.credentials.initiator == "iqn.2017-10.test.disk:pc1.g1"
    with Initiator(found) as initiator:
        assert initiator.read(0) == disk.path.read_bytes()[:512]
        initiator.write(8, b"w" * 512)
        initiator.sync()
        assert [(s.initiator, s.address) for s in target.sessions("pc1")] == [
            (found.credentials.initiator, "127.0.0.1")
        ]
    assert disk.path.read_bytes()[4096 : 4096 + 512] == b"w" * 512


def test_the_target_proves_itself_too(target: TgtTarget, tmp_path: Path) -> None:
    disk = make_disk(tmp_path)
    who = new_credentials(target, disk, mutual=True)
    assert who.reverse_secret != who.secret
    found = target.export(disk, who, deadline=Deadline(HANG))
    with Initiator(found) as initiator:
        assert initiator.read(0) == disk.path.read_bytes()[:512]
    with pytest.raises(LoginError):
        Initiator(found, reverse_secret="a" * 16)
    one_way = replace(found, credentials=replace(who, reverse_user=""))
    with Initiator(one_way) as initiator:
        assert initiator.read(0), "who does not ask for a proof needs none"
    fence(target)
    again = replace(disk, generation=2)
    found = export(target, again)
    # As would a target that has never heard of the secret
    claimed = replace(found.credentials, reverse_user="pc1.g1.target", reverse_secret="b" * 16)
    with pytest.raises(LoginError):
        Initiator(replace(found, credentials=claimed))
    accounts = target._ipc.call(Mode.ACCOUNT, Op.SHOW, deadline=Deadline(HANG))
    assert accounts.split() == ["Account", "list:", "pc1.g2"]


def test_who_has_not_all_of_them_is_refused(target: TgtTarget, tmp_path: Path) -> None:
    found = export(target, make_disk(tmp_path))
    for wrong in (
        {"name": "iqn.2017-10.test.disk:pc1.g2"},
        {"name": "iqn.2017-10.test.disk:pc1"},
        {"user": "pc1.g2"},
        {"secret": "a" * 16},
    ):
        with pytest.raises(LoginError):
            Initiator(found, **wrong)
    who = replace(found.credentials, user="")
    with raw(replace(found, credentials=who)) as initiator, pytest.raises(LoginError):
        initiator.finish()  # without any CHAP
    assert target.sessions("pc1") == []
    with Initiator(found):
        pass


def test_fence_ends_a_live_session_and_the_old_secret(target: TgtTarget, tmp_path: Path) -> None:
    disk = make_disk(tmp_path)
    old = export(target, disk)
    with Initiator(old) as initiator:
        initiator.write(0, b"1" * 512)
        fence(target)
        assert target.sessions("pc1") == []
        with pytest.raises(OSError, match=r"BUS_RESET|no answer"):
            initiator.write(0, b"2" * 512)
    with pytest.raises(LoginError):
        Initiator(old)
    assert disk.path.read_bytes()[:512] == b"1" * 512
    assert not target._holds(disk.path)
    new = export(target, make_disk(tmp_path, generation=2), 1)
    for wrong in (old, replace(new, credentials=old.credentials)):
        with pytest.raises(LoginError):
            Initiator(wrong)
    with pytest.raises(LoginError):
        Initiator(new, secret=old.credentials.secret)
    with Initiator(new):
        later = target.sessions("pc1")
    assert [s.initiator for s in later] == ["iqn.2017-10.test.disk:pc1.g2"]
    fence(target)
    fence(target)


def test_fence_drops_a_session_that_writes_all_the_time(target: TgtTarget, tmp_path: Path) -> None:
    disk = make_disk(tmp_path)
    found = export(target, disk)
    code = (
        "import sys; from tests.disk.content import *; from tests.iscsi import *\n"
        "from cuckoo_zfsiscsi.disk.target import *\n"
        "p, t, i, u, s = sys.argv[1:]\n"
        "w = Initiator(Export('127.0.0.1', int(p), t, 1, Credentials(i, u, s)))\n"
        "while True: w.write(0, b'x' * 65536); print('w', flush=True)\n"
    )
    who = found.credentials
    argv = ["-c", code, str(found.port), found.target, who.initiator, who.user, who.secret]
    with subprocess.Popen(
        [sys.executable, *argv], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"w\n"
        fence(target)
        content = disk.path.read_bytes()
        facts = disk.path.stat()
        writer.stdout.read()
        writer.wait(HANG)
    assert disk.path.read_bytes() == content
    assert disk.path.stat().st_mtime_ns == facts.st_mtime_ns


def test_fence_drops_a_host_that_lost_power_while_it_read(
    target: TgtTarget, tmp_path: Path
) -> None:
    # It reads nothing any more: tgtd's own way to close the connection waits for the kernel.
    found = export(target, make_disk(tmp_path))
    with raw(found) as initiator:
        initiator.security()
        initiator.finish()
        assert len(target.sessions("pc1")) == 1
        initiator.ask_much(64)
        time.sleep(0.3)
        fence(target)
        assert target.sessions("pc1") == []


def test_a_login_begun_before_the_fence_never_ends_well(target: TgtTarget, tmp_path: Path) -> None:
    found = export(target, make_disk(tmp_path))
    with raw(found) as initiator:
        initiator.security()
        fence(target)
        disk = make_disk(tmp_path, generation=2)
        export(target, disk, 1)
        with pytest.raises(LoginError):
            initiator.finish()
        assert target.sessions("pc1") == []


def test_hosts_are_apart(target: TgtTarget, tmp_path: Path) -> None:
    one = export(target, make_disk(tmp_path))
    two = export(target, make_disk(tmp_path, "pc2"))
    with pytest.raises(LoginError):
        Initiator(replace(two, credentials=one.credentials))
    with Initiator(one) as first, Initiator(two) as second:
        numbers = [target.sessions(host)[0].number for host in ("pc1", "pc2")]
        assert numbers[0] < numbers[1]
        fence(target, "pc1")
        with pytest.raises(OSError, match=r"BUS_RESET|no answer"):
            first.read(0)
        second.read(0)
        assert len(target.sessions("pc2")) == 1
    assert target.sessions("unknown") == []


def test_looks_like_an_ordinary_disk_and_the_same_at_each_boot(
    target: TgtTarget, tmp_path: Path
) -> None:
    seen = []
    for generation in (1, 2):
        found = export(target, make_disk(tmp_path, generation=generation), generation)
        with Initiator(found) as initiator:
            inquiry, serial = initiator.inquiry(), initiator.inquiry(0x80)
            identity, controller = initiator.inquiry(0x83), initiator.inquiry(lun=0)
        fence(target)
        seen.append((inquiry, serial, identity[: 8 + 36]))
        assert inquiry[8:36] == b"ATA     Samsung SSD 870 SVT0"
        everything = inquiry + serial + identity + controller
        assert not any(word in everything for word in (b"IET", b"VIRTUAL", b"beaf"))
    assert seen[0] == seen[1]
    assert b"S5Y1NX" in seen[0][1]


def test_only_a_fenced_host_gets_an_export(target: TgtTarget, tmp_path: Path) -> None:
    export(target, make_disk(tmp_path))
    with pytest.raises(TargetError, match="pc1 is not fenced"):
        export(target, make_disk(tmp_path, generation=2))


def test_a_failed_export_leaves_nothing(target: TgtTarget, tmp_path: Path) -> None:
    disk = make_disk(tmp_path)
    missing = replace(disk, path=tmp_path / "missing.raw")
    with pytest.raises(TargetError, match="tgtd refused new device"):
        export(target, missing)
    with Initiator(export(target, disk)):
        pass


def test_a_disk_that_can_not_be_written_is_not_exported(target: TgtTarget, tmp_path: Path) -> None:
    disk = make_disk(tmp_path)
    place = tmp_path / "readonly"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", place], check=True)
    try:
        path = make_raw(place / "disk.raw")
        subprocess.run(["mount", "-o", "remount,ro", place], check=True)
        with pytest.raises(TargetError, match=r"tgtd did not open .* for writing"):
            export(target, replace(disk, path=path))
        assert not target._holds(path)
    finally:
        subprocess.run(["umount", place], check=True)


@pytest.mark.parametrize("host", ["pc_1", "pc 1", "pc,1", "pc1\n"])
def test_names_that_iscsi_does_not_know(target: TgtTarget, tmp_path: Path, host: str) -> None:
    with pytest.raises(TargetError, match="can't be used with iSCSI"):
        export(target, replace(make_disk(tmp_path), host=host))
    assert target.sessions(host) == []


def test_a_secret_is_never_shown(target: TgtTarget, tmp_path: Path) -> None:
    disk = make_disk(tmp_path)
    who = Credentials(target.initiator(disk), "pc1.g1", "no, comma in it!")
    with pytest.raises(TargetError, match="the CHAP secret can't be used") as caught:
        target.export(disk, who, deadline=Deadline(HANG))
    assert "comma" not in str(caught.value)
    comma = replace(disk, path=tmp_path / "a,b.raw")
    with pytest.raises(TargetError, match="can't export"):
        export(target, comma)
    found = export(target, disk)
    assert SECRET not in repr(found)
    assert SECRET not in target._daemon.tail
    cmdline = Path(f"/proc/{target._daemon.pid}/cmdline").read_bytes()
    assert SECRET.encode() not in cmdline


def test_control_socket_is_for_root_alone(target: TgtTarget) -> None:
    # tgtd itself refuses other users (SO_PEERCRED); the socket's mode is what umask makes of it.
    info = target._ipc.path.stat()
    assert stat.S_ISSOCK(info.st_mode)
    assert not info.st_mode & 0o022


# Life and death of tgtd.


def test_the_next_service_ends_what_the_last_one_left(run_dir: Path, tmp_path: Path) -> None:
    port = free_port()
    first, second = make_target(run_dir, port), make_target(run_dir, port)
    first.open(deadline=Deadline(HANG))
    old = export(first, make_disk(tmp_path))
    with Initiator(old) as initiator:
        second.open(deadline=Deadline(HANG))
        with pytest.raises(OSError, match=r"BUS_RESET|no answer"):
            initiator.read(0)
    with pytest.raises(LoginError):
        Initiator(old)
    assert second.sessions("pc1") == []
    with pytest.raises(TargetError, match="tgtd has died"):
        first.sessions("pc1")
    second.close()
    first.close()


def test_its_death_is_noticed_and_the_next_fence_starts_it_again(
    target: TgtTarget, tmp_path: Path
) -> None:
    disk = make_disk(tmp_path)
    old = export(target, disk)
    export(target, make_disk(tmp_path, "pc2"))
    pid = target._daemon.pid
    assert pid
    os.kill(pid, signal.SIGKILL)
    wait(lambda: not target._daemon.alive(), what="tgtd seems alive")
    for ask in (lambda: target.sessions("pc1"), lambda: export(target, disk)):
        with pytest.raises(TargetError, match=r"tgtd has died: .*tgtd"):
            ask()
    fence(target, "pc2")
    assert target.sessions("pc1") == []
    with pytest.raises(LoginError):
        Initiator(old)
    with Initiator(export(target, disk, 1)):
        assert len(target.sessions("pc1")) == 1


def test_closed_means_no_process(run_dir: Path, tmp_path: Path) -> None:
    target = make_target(run_dir)
    fence(target)
    target.close()
    target.open(deadline=Deadline(HANG))
    found = export(target, make_disk(tmp_path))
    pid = target._daemon.pid
    target.close()
    target.close()
    assert not Path(f"/proc/{pid}").exists()
    with pytest.raises(LoginError):
        Initiator(found)
    fence(target)
    assert target._daemon.pid is None


def test_a_portal_that_someone_else_has(run_dir: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        target = make_target(run_dir, port)
        with pytest.raises(TargetError, match=rf"can't listen on 127\.0\.0\.1:{port}") as caught:
            target.open(deadline=Deadline(HANG))
    assert "ss -ltnp" in caught.value.fix
    assert target._daemon.pid is None
    target.close()


def test_an_address_that_is_not_ours(run_dir: Path) -> None:
    target = TgtTarget(
        portal=IPv4Address("192.0.2.1"), port=free_port(), iqn="iqn.x", run_dir=run_dir
    )
    with pytest.raises(TargetError, match=r"can't listen on 192\.0\.2\.1"):
        target.open(deadline=Deadline(HANG))
    target.close()


def test_a_path_too_long_for_a_socket(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="too long for a socket"):
        make_target(tmp_path / ("x" * 100)).open(deadline=Deadline(HANG))


# Deadlines.


def test_fence_does_not_claim_what_is_not_true(
    target: TgtTarget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = export(target, make_disk(tmp_path, generation=3))
    with raw(found) as initiator:
        initiator.security()
        initiator.finish()
        initiator.ask_much(64)
        time.sleep(0.3)
        with monkeypatch.context() as patch:
            patch.setattr(target._logins, "_cut", lambda *_: None)
            # Whichever step the deadline finds: each goes on until the session is gone
            waits = r"session of .*pc1\.g3 to end|last command of pc1 to end|tgtd's answer to"
            with pytest.raises(DeadlineExceededError, match=waits):
                target.fence("pc1", deadline=Deadline(1))
        with pytest.raises(TargetError, match="not fenced"):
            export(target, make_disk(tmp_path, generation=4))
        fence(target)


def test_fence_can_be_cancelled(target: TgtTarget, tmp_path: Path) -> None:
    export(target, make_disk(tmp_path))
    cancel = Cancel()
    cancel.set("enough")
    with pytest.raises(CancelledError):
        target.fence("pc1", deadline=Deadline(HANG, cancel))
    fence(target)


def test_other_refusals_are_not_swallowed(
    target: TgtTarget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export(target, make_disk(tmp_path))

    def refuse(*_: object, **__: object) -> str:
        raise RefusedError("tgtd refused it", 1)

    with monkeypatch.context() as patch:
        patch.setattr(target._ipc, "call", refuse)
        for ask in (
            lambda: target.sessions("pc1"),
            lambda: fence(target),
            lambda: target._is_gone(1, Deadline(HANG)),
        ):
            with pytest.raises(RefusedError):
                ask()
    fence(target)
    assert target._is_gone(1, Deadline(HANG))
    assert target._logins.up(1, Deadline(HANG)) == []
    target._ipc.undo(Mode.ACCOUNT, Op.DELETE, "user=nobody", deadline=Deadline(HANG))


def test_the_disk_is_as_big_as_its_file(target: TgtTarget, tmp_path: Path) -> None:
    disk = make_disk(tmp_path)
    with Initiator(export(target, disk)) as initiator:
        assert initiator.read(5 * MIB // 512 - 1) == disk.path.read_bytes()[-512:]
        with pytest.raises(OSError, match="SCSI status"):
            initiator.read(5 * MIB // 512)

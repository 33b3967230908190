from __future__ import annotations

import os
import shutil
import signal
import socket
import stat
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
from cuckoo_zfsiscsi.disk.store import Disk
from cuckoo_zfsiscsi.disk.store.facts import opened_by
from cuckoo_zfsiscsi.disk.target import Credentials, Export, tgt, tgt_process
from cuckoo_zfsiscsi.disk.target.tgt import TgtTarget
from cuckoo_zfsiscsi.disk.target.tgt_ipc import Ipc, Mode, Op
from cuckoo_zfsiscsi.disk.target.tgt_process import Tgtd
from cuckoo_zfsiscsi.errors import CancelledError, DeadlineExceededError, TargetError
from tests.disk.content import MIB, files, make_raw, make_target
from tests.iscsi import Initiator, LoginError, free_port, raw
from tests.processes import alive, watched
from tests.waiting import HANG, wait

SECRET = "aB3456789012345"


def make_disk(path: Path, host: str = "pc1", generation: int = 1) -> Disk:
    raw_file = make_raw(path / f"{host}-{generation}.raw")
    return Disk(host, generation, "win10@1", raw_file, "current")


def tgtd_of(target: TgtTarget, host: str = "pc1") -> Tgtd:
    return target._exports[host]


def tgtd_pid(run_dir: Path, host: str = "pc1") -> int:
    return int((run_dir / f"tgtd-{host}.pid").read_text())


def watcher_pid(run_dir: Path) -> int:
    """Return the process outside of the sandbox, which waits for the one inside."""
    told = Path(f"/proc/{tgtd_pid(run_dir)}/stat").read_text()
    return int(told.rpartition(")")[2].split()[1])


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
    accounts = tgtd_of(target).ipc.call(Mode.ACCOUNT, Op.SHOW, deadline=Deadline(HANG))
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
    assert opened_by(disk.path) == ""
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
        assert [len(target.sessions(host)) for host in ("pc1", "pc2")] == [1, 1]
        assert one.port != two.port
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
    with pytest.raises(TargetError, match=r"disk of pc1 can't be exported: .*missing\.raw"):
        export(target, missing)
    assert target.sessions("pc1") == []
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
        with pytest.raises(TargetError, match=r"can't be exported: .*Read-only file system"):
            export(target, replace(disk, path=path))
        assert opened_by(path) == ""
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
    with watched() as seen:
        found = export(target, disk)
    assert SECRET not in repr(found)
    assert SECRET not in tgtd_of(target).tail
    assert any(b"tgtd" in line for line in seen)
    assert not any(SECRET.encode() in line for line in seen)


def test_a_path_that_tgt_would_take_for_something_else(target: TgtTarget, tmp_path: Path) -> None:
    path = tmp_path / "a,bstype=null b"
    path.mkdir()
    disk = make_disk(path)
    with Initiator(export(target, disk)) as initiator:
        assert initiator.read(0) == disk.path.read_bytes()[:512]


def test_the_control_socket_is_for_root_alone(target: TgtTarget, tmp_path: Path) -> None:
    """It refuses all users but its own (SO_PEERCRED), and can't put another in its place."""
    export(target, make_disk(tmp_path))
    one = tgtd_of(target)
    path = one.ipc.path
    assert stat.S_ISSOCK(path.stat().st_mode)
    assert not path.stat().st_mode & 0o022
    assert (path.parent.stat().st_uid, path.parent.stat().st_mode & 0o222) == (0, 0o200)
    with pytest.raises(TargetError):
        Ipc(path).call(Mode.SYSTEM, Op.SHOW, deadline=Deadline(HANG))
    with pytest.raises(TargetError):
        Ipc(path, one.user + 1).call(Mode.SYSTEM, Op.SHOW, deadline=Deadline(HANG))
    assert os.geteuid() == 0
    fence(target)
    assert not path.parent.exists()


# Life and death of tgtd.


def test_the_next_service_ends_what_the_last_one_left(run_dir: Path, tmp_path: Path) -> None:
    port = free_port()
    first, second = make_target(run_dir, port), make_target(run_dir, port)
    first.open(deadline=Deadline(HANG))
    old = export(first, make_disk(tmp_path))
    pids = {tgtd_pid(run_dir), watcher_pid(run_dir)}
    with Initiator(old) as initiator:
        second.open(deadline=Deadline(HANG))
        assert not any(map(alive, pids))
        with pytest.raises(OSError, match=r"BUS_RESET|no answer"):
            initiator.read(0)
    with pytest.raises(LoginError):
        Initiator(old)
    assert second.sessions("pc1") == []
    assert first.sessions("pc1") == []
    assert first.ended("pc1")
    second.close()
    first.close()


def test_it_outlives_its_watcher_and_is_fenced_all_the_same(
    target: TgtTarget, run_dir: Path, tmp_path: Path
) -> None:
    with Initiator(export(target, make_disk(tmp_path))) as initiator:
        pid, watcher = tgtd_pid(run_dir), watcher_pid(run_dir)
        assert Path(f"/proc/{watcher}/comm").read_text() == "bwrap\n"
        os.kill(watcher, signal.SIGKILL)
        wait(lambda: not alive(watcher), what="it lives on")
        assert initiator.read(0)
        assert len(target.sessions("pc1")) == 1
        assert target.ended("pc1") == ""
        fence(target)
        assert not alive(pid)


def test_its_death_costs_its_own_host_the_run_and_is_told(
    target: TgtTarget, run_dir: Path, tmp_path: Path
) -> None:
    disk = make_disk(tmp_path)
    old = export(target, disk)
    with Initiator(export(target, make_disk(tmp_path, "pc2"))) as sibling:
        os.kill(tgtd_pid(run_dir), signal.SIGKILL)
        wait(lambda: target.ended("pc1") == "tgtd died of SIGKILL", what="it seems alive")
        assert target.ended("pc2") == target.ended("unknown") == ""
        assert target.sessions("pc1") == []
        with pytest.raises(LoginError):
            Initiator(old)
        with pytest.raises(TargetError, match="not fenced"):
            export(target, disk)
        fence(target)
        assert target.ended("pc1") == ""
        with Initiator(export(target, disk, 1)):
            assert len(target.sessions("pc1")) == 1
        assert sibling.read(0)


def test_it_leaves_nothing(target: TgtTarget, run_dir: Path, tmp_path: Path) -> None:
    disk = make_disk(tmp_path)
    threads, handles = threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))
    for number in range(3):
        export(target, disk, number)
        pids = {tgtd_pid(run_dir), watcher_pid(run_dir)}
        assert disk.path.stat().st_uid == tgtd_of(target).user
        fence(target)
        assert not any(map(alive, pids))
    assert files(run_dir) == set()
    assert (disk.path.stat().st_uid, disk.path.stat().st_gid) == (0, 0)
    wait(lambda: threading.active_count() == threads, what="threads are left")
    assert len(list(Path("/proc/self/fd").iterdir())) == handles


def test_closed_means_no_process(run_dir: Path, tmp_path: Path) -> None:
    target = make_target(run_dir)
    fence(target)
    target.close()
    target.open(deadline=Deadline(HANG))
    found = export(target, make_disk(tmp_path))
    pid = tgtd_pid(run_dir)
    target.close()
    target.close()
    assert not Path(f"/proc/{pid}").exists()
    with pytest.raises(LoginError):
        Initiator(found)
    fence(target)


def test_a_portal_that_someone_else_has(run_dir: Path, tmp_path: Path) -> None:
    port = free_port()
    target = make_target(run_dir, port)
    target.open(deadline=Deadline(HANG))
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        for ask in (
            lambda: make_target(run_dir, port).open(deadline=Deadline(HANG)),
            lambda: export(target, make_disk(tmp_path)),
        ):
            with pytest.raises(TargetError, match=rf"listen on 127\.0\.0\.1:{port}") as caught:
                ask()
            assert "ss -ltnp" in caught.value.fix
        assert files(run_dir) == set()
    with Initiator(export(target, make_disk(tmp_path))):
        pass
    target.close()


def test_an_address_that_is_not_ours(run_dir: Path) -> None:
    target = TgtTarget(
        portal=IPv4Address("192.0.2.1"), port=free_port(), iqn="iqn.x", run_dir=run_dir
    )
    with pytest.raises(TargetError, match=r"can't listen on 192\.0\.2\.1") as caught:
        target.open(deadline=Deadline(HANG))
    assert "ip -br addr" in caught.value.fix
    target.close()


def test_a_path_too_long_for_a_socket_is_none(tmp_path: Path) -> None:
    target = make_target(tmp_path / ("x" * 200))
    target.open(deadline=Deadline(HANG))
    with Initiator(export(target, make_disk(tmp_path))):
        assert target.sessions("pc1")
    target.close()


@pytest.mark.parametrize(
    ("name", "package"), [("bwrap", "bubblewrap"), ("setpriv", "util-linux"), ("tgtd", "tgt")]
)
def test_a_program_that_is_missing(
    run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, package: str
) -> None:
    which = shutil.which
    monkeypatch.setattr(
        shutil, "which", lambda asked, **how: None if asked == name else which(asked, **how)
    )
    target, handles = make_target(run_dir), len(list(Path("/proc/self/fd").iterdir()))
    for ask in (
        lambda: target.open(deadline=Deadline(HANG)),
        lambda: export(target, make_disk(tmp_path)),
    ):
        with pytest.raises(TargetError, match=f"{name} is not installed") as caught:
            ask()
        assert caught.value.fix == f"apt install {package}"
    assert len(list(Path("/proc/self/fd").iterdir())) == handles


# Deadlines.


def test_fence_does_not_claim_what_is_not_true(
    target: TgtTarget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export(target, make_disk(tmp_path, generation=3))
    with monkeypatch.context() as patch:
        patch.setattr(tgt_process._Process, "is_gone", lambda _: False)
        with pytest.raises(DeadlineExceededError, match="waiting for the end of tgtd of pc1"):
            target.fence("pc1", deadline=Deadline(0.2))
    with pytest.raises(TargetError, match="not fenced"):
        export(target, make_disk(tmp_path, generation=4))
    fence(target)
    with Initiator(export(target, make_disk(tmp_path, generation=4))):
        pass


def test_fence_can_be_cancelled(target: TgtTarget, tmp_path: Path) -> None:
    export(target, make_disk(tmp_path))
    cancel = Cancel()
    cancel.set("enough")
    with pytest.raises(CancelledError):
        target.fence("pc1", deadline=Deadline(HANG, cancel))
    fence(target)


def test_a_tgtd_that_does_not_answer_is_an_error_and_can_be_fenced(
    target: TgtTarget, run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export(target, make_disk(tmp_path))
    os.kill(tgtd_pid(run_dir), signal.SIGSTOP)
    monkeypatch.setattr(tgt, "_ASK_TIMEOUT", 0.1)
    with pytest.raises(DeadlineExceededError, match="tgtd's answer to show connection 1"):
        target.sessions("pc1")
    assert target.sessions("pc2") == []
    fence(target)
    assert target.sessions("pc1") == []


def test_the_disk_is_as_big_as_its_file(target: TgtTarget, tmp_path: Path) -> None:
    disk = make_disk(tmp_path)
    with Initiator(export(target, disk)) as initiator:
        assert initiator.read(5 * MIB // 512 - 1) == disk.path.read_bytes()[-512:]
        with pytest.raises(OSError, match="SCSI status"):
            initiator.read(5 * MIB // 512)

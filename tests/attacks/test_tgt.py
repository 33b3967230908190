"""A guest against the program that serves its disk, tgtd: it may have it, and nothing else.

The real tgtd, and initiators that send what no honest one does.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.store import Disk
from cuckoo_zfsiscsi.disk.target import Credentials, Export
from cuckoo_zfsiscsi.disk.target.tgt import TgtTarget
from cuckoo_zfsiscsi.disk.target.tgt_calls import program
from cuckoo_zfsiscsi.disk.target.tgt_ipc import Mode, Op
from cuckoo_zfsiscsi.disk.target.tgt_process import Tgtd
from cuckoo_zfsiscsi.disk.target.tgt_sandbox import FIRST_USER, MEMORY, Sandbox
from tests.disk.content import make_raw, make_target
from tests.iscsi import Initiator, LoginError, RawInitiator, free_port, raw
from tests.processes import alive
from tests.waiting import HANG, wait

Record = Callable[[str, object], None]


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    return tmp_path / "run"


@pytest.fixture
def target(run_dir: Path) -> Iterator[TgtTarget]:
    one = make_target(run_dir)
    one.open(deadline=Deadline(HANG))
    yield one
    one.close()


@pytest.fixture
def export(target: TgtTarget, tmp_path: Path) -> Callable[[str], Export]:
    """Return what arms a host with a new disk."""
    generations = iter(range(1, 100))

    def arm(host: str) -> Export:
        generation = next(generations)
        path = make_raw(tmp_path / f"{host}-{generation}.raw")
        disk = Disk(host, generation, "win10@1", path, "current")
        who = Credentials(target.initiator(disk), f"{host}.g{generation}", f"aB3456{generation:09}")
        return target.export(disk, who, deadline=Deadline(HANG))

    return arm


class Sibling:
    """A host that reads and writes all the time, and what it found."""

    def __init__(self, export: Export) -> None:
        self._export = export
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work)
        self.error: Exception | None = None
        self.rounds = 0
        self.slowest = 0.0

    def __enter__(self) -> Sibling:
        self._thread.start()
        wait(lambda: self.rounds or self.error, what="the sibling has not begun")
        return self

    def __exit__(self, *_: object) -> None:
        before = self.rounds
        wait(lambda: self.rounds > before or self.error, what="the sibling stands still")
        self._over.set()
        self._thread.join(HANG)

    def _work(self) -> None:
        try:
            with Initiator(self._export) as initiator:
                while not self._over.is_set():
                    begin, data = time.monotonic(), os.urandom(65536)
                    initiator.write(128, data)
                    assert initiator.read(128, len(data)) == data
                    self.slowest = max(self.slowest, time.monotonic() - begin)
                    self.rounds += 1
        except Exception as error:  # noqa: BLE001 - for the test's own thread
            self.error = error


@contextlib.contextmanager
def logged_in(export: Export, session: int = 1) -> Iterator[RawInitiator]:
    with raw(export, session) as initiator:
        initiator.security()
        initiator.finish()
        yield initiator


def fence(target: TgtTarget, host: str) -> float:
    """Fence it; return how long that took."""
    begin = time.monotonic()
    target.fence(host, deadline=Deadline(HANG))
    return time.monotonic() - begin


OVERFLOWS: dict[str, tuple[int, bytes, bytes]] = {
    "512-and-513": (512, bytes(513), b""),
    "512-and-65536": (512, bytes(65536), b""),
    "0-and-65536": (0, bytes(65536), b""),
    "4096-and-65536-unsolicited": (4096, b"", bytes(65536)),
}
"""Bytes promised, immediate data, unsolicited data."""


@pytest.mark.parametrize("name", OVERFLOWS)
def test_overflow(
    name: str,
    target: TgtTarget,
    export: Callable[[str], Export],
    record_property: Record,
) -> None:
    """More data than a command promises: tgtd writes it behind its buffer.

    Before: one tgtd, root, served all hosts: each lost its disk by one PDU of one of them.
    Now: the host's own tgtd may die, an unprivileged process in a sandbox. A sibling reads and
    writes on, and the next reset of the host comes out well.
    """
    expected, data, unsolicited = OVERFLOWS[name]
    with Sibling(export("pc2")) as sibling:
        for _ in range(4):
            with contextlib.suppress(OSError, LoginError), logged_in(export("pc1")) as guest:
                for _ in range(8):
                    guest.write(expected, data, unsolicited=unsolicited)
                guest.socket.settimeout(2.0)
                while guest.socket.recv(4096):
                    pass
            took = fence(target, "pc1")
            with Initiator(export("pc1")) as again:
                assert again.read(0)
                assert len(target.sessions("pc1")) == 1
            fence(target, "pc1")
        assert len(target.sessions("pc2")) == 1
    assert sibling.error is None
    record_property("a sibling's slowest write, s", round(sibling.slowest, 3))
    record_property("its fence, s", round(took, 3))


SESSIONS = 400


def test_many_sessions(
    target: TgtTarget, export: Callable[[str], Export], record_property: Record
) -> None:
    """400 sessions of one guest with its own secret, which ask for much and read nothing of it.

    Before: tgtd closed them one by one, or the kernel was asked to, for the host's whole address.
    Now: its tgtd is killed, and the kernel closes all of them, at once.
    """
    with Sibling(export("pc2")) as sibling, contextlib.ExitStack() as stack:
        mine = export("pc1")
        for number in range(SESSIONS):
            stack.enter_context(logged_in(mine, number)).ask_much(2)
        assert len(target.sessions("pc1")) == SESSIONS
        took = fence(target, "pc1")
        with Initiator(export("pc1")) as again:
            assert again.read(0)
            assert len(target.sessions("pc1")) == 1
    assert sibling.error is None
    record_property("its fence, s", round(took, 3))


HALF = 1000


def test_half_logins_at_a_siblings_portal(
    target: TgtTarget, export: Callable[[str], Export], record_property: Record
) -> None:
    """A thousand connections to a sibling's portal that promise a login and never send it.

    Before: tgt bore it, too; the kernel's target lets nobody else in.
    Now: the sibling logs in, reads and is fenced all the same, also without a firewall.
    """
    theirs = export("pc2")
    with contextlib.ExitStack() as stack:
        for _ in range(HALF):
            guest = stack.enter_context(raw(theirs))
            guest.socket.sendall(bytes([0x43, 0x87, 0, 0, 0, 0, 0x10, 0, *bytes(40)]))
        begin = time.monotonic()
        with Initiator(theirs) as sibling:
            assert sibling.read(0)
            assert len(target.sessions("pc2")) == 1
            record_property("a sibling's login, s", round(time.monotonic() - begin, 3))
        took = fence(target, "pc2")
        with Initiator(export("pc2")) as sibling:
            assert sibling.read(0)
    record_property("a sibling's fence, s", round(took, 3))


def test_memory(
    target: TgtTarget, run_dir: Path, export: Callable[[str], Export], record_property: Record
) -> None:
    """512 writes of 4 MiB whose data never comes, from each of 16 sessions.

    Before: as much of the server's memory as was asked for.
    Now: the host's own tgtd has a limit, at which it dies or refuses; a sibling works on.
    """
    mine = export("pc1")
    pid = int((run_dir / "tgtd-pc1.pid").read_text())
    most = 0
    with Sibling(export("pc2")) as sibling, contextlib.ExitStack() as stack:
        for number in range(16):
            with contextlib.suppress(OSError, LoginError):
                guest = stack.enter_context(logged_in(mine, number))
                guest.socket.settimeout(2.0)
                for _ in range(512):
                    guest.write(4 << 20, b"")
            most = max(most, reserved(pid))
        fence(target, "pc1")
        with Initiator(export("pc1")) as again:
            assert again.read(0)
    assert sibling.error is None
    assert most <= MEMORY
    record_property("its memory, MiB", most >> 20)


def reserved(pid: int) -> int:
    """Return bytes of its address space; 0 if it has died."""
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * os.sysconf("SC_PAGESIZE")
    return 0


def test_a_siblings_port(target: TgtTarget, export: Callable[[str], Export]) -> None:
    """A tgtd that a guest has taken over listens where a sibling's will, before the sibling boots.

    Before: one tgtd had all ports, and who had it had all hosts.
    Now: it is ended, which costs its own host the run, and the sibling boots.
    """
    with Initiator(export("pc1")) as guest:
        assert guest.read(0)
        port = target._ports["pc2"]
        target._exports["pc1"].ipc.call(
            Mode.PORTAL, Op.NEW, f"portal=127.0.0.1:{port}", deadline=Deadline(HANG)
        )
        with Initiator(export("pc2")) as sibling:
            assert sibling.read(0)
        assert target.ended("pc1")
        assert target.sessions("pc1") == []
    fence(target, "pc1")
    with Initiator(export("pc1")) as again:
        assert again.read(0)


PROBE = """
import ctypes, errno, json, os, signal, socket, sys

def attempt(call):
    try:
        return repr(call())
    except BaseException as error:
        return getattr(error, "errno", None) and errno.errorcode[error.errno] or repr(error)

def send_to(kind, address, flags=0):
    with socket.socket(socket.AF_INET, kind) as one:
        return one.sendto(b"x", flags, address)

def threads():
    import threading
    one = threading.Thread(target=str)
    one.start()
    one.join()
    return "one"

port, secret = int(sys.argv[1]), sys.argv[2]
print(json.dumps({
    "ids": os.getresuid() + os.getresgid() + tuple(os.getgroups()),
    "become root": attempt(lambda: os.setuid(0)),
    "files": sorted(os.listdir("/")),
    "room": attempt(lambda: os.listdir("/run")),
    "secret": attempt(lambda: open(secret).read()),
    "etc": attempt(lambda: os.listdir("/etc")),
    "proc": attempt(lambda: os.listdir("/proc")),
    "own disk": attempt(lambda: open("/disk", "r+b").read(4)),
    "write elsewhere": [
        attempt(lambda: open(f"{at}/x", "w")) for at in ("/", "/run", "/usr", "/tmp")
    ],
    "a larger disk": attempt(lambda: os.pwrite(os.open("/disk", os.O_WRONLY), b"x", 64 << 20)),
    "connect": attempt(lambda: socket.create_connection(("127.0.0.1", port), 2)),
    "fast open": attempt(lambda: send_to(socket.SOCK_STREAM, ("127.0.0.1", port), 0x20000000)),
    "datagram": attempt(lambda: send_to(socket.SOCK_DGRAM, ("127.0.0.1", port))),
    "raw": attempt(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)),
    "abstract": attempt(lambda: socket.socket(socket.AF_UNIX).connect("\\0probe")),
    "fork": attempt(os.fork),
    "run": attempt(lambda: os.posix_spawn("/usr/bin/true", ["true"], {})),
    "thread": attempt(threads),
    "kill": attempt(lambda: os.kill(int(os.environ["OUTSIDE"]), signal.SIGKILL)),
    "trace": ctypes.CDLL(None, use_errno=True).ptrace(16, 1, 0, 0),
    "unshare": ctypes.CDLL(None).unshare(0x10000000),
    "mount": ctypes.CDLL(None).mount(b"a", b"/run", b"tmpfs", 0, 0),
    "environment": sorted(os.environ),
}))
"""


def test_what_is_seen_from_a_tgtd_that_was_taken_over(
    target: TgtTarget, run_dir: Path, export: Callable[[str], Export], tmp_path: Path
) -> None:
    """Code of a guest, in place of its tgtd: reads, writes, connects, forks, kills, becomes root.

    Before: it was root, in no sandbox, with every password of the service in its environment.
    Now: it is nobody, sees its own disk and no other file of ours, no process, and reaches nobody.
    """
    export("pc2")
    sibling, mine = target._exports["pc2"], tmp_path / "mine.raw"
    make_raw(mine)
    room = tmp_path / "room"
    room.mkdir(mode=0o711)
    user = FIRST_USER + 1
    os.chown(mine, user, user)
    secret = tmp_path / "secret"
    secret.write_text("secret")
    outside = str(os.getpid())
    calls, (told, info) = os.memfd_create("calls"), os.pipe()
    os.write(calls, program())
    os.lseek(calls, 0, os.SEEK_SET)
    with socket.socket() as listener, socket.socket(socket.AF_UNIX) as abstract:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        abstract.bind("\0probe")
        abstract.listen()
        port = str(listener.getsockname()[1])
        argv = ["/usr/bin/python3", "-I", "-S", "-c", PROBE, port, str(secret)]
        command = Sandbox(user, mine, room).command(
            argv, {"OUTSIDE": outside}, calls=calls, info=info
        )
        done = subprocess.run(
            command, pass_fds=(calls, info), env={**os.environ, "PASSWORD": "hunter2"},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=HANG, check=False,
        )  # fmt: skip
    for handle in (calls, told, info):
        os.close(handle)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["ids"] == [user] * 6
    assert found["files"] == sorted(["bin", "disk", "lib", "lib64", "run", "sbin", "usr"])
    assert found["room"] == "EACCES"
    assert found["own disk"].startswith("b'")
    assert found["thread"] == "'one'"
    assert found["environment"] == ["LC_CTYPE", "OUTSIDE", "PWD"]
    refused = {
        "become root": "EPERM", "secret": "ENOENT", "etc": "ENOENT", "proc": "ENOENT",
        "a larger disk": "EFBIG",
        "connect": "ENOSYS", "fast open": "ENOSYS", "datagram": "ENOSYS", "raw": "ENOSYS",
        "abstract": "ENOSYS", "fork": "ENOSYS", "run": "ENOSYS", "kill": "ESRCH",
        "trace": -1, "unshare": -1, "mount": -1,
    }  # fmt: skip
    assert {key: found[key] for key in refused} == refused
    assert set(found["write elsewhere"]) <= {"EROFS", "EACCES", "ENOENT"}
    assert alive(int((run_dir / "tgtd-pc2.pid").read_text()))
    assert sibling.ended() == ""


def test_its_limits_are_its_own(tmp_path: Path) -> None:
    """Threads are counted by user: one that has made all that it may keeps no other from its own.

    Before: nothing was limited, and 5,000 threads would have been all that the service may have.
    Now: each tgtd has a user of its own, also beside one that has the same port elsewhere.
    """
    port = free_port()
    many = []
    for number in range(4):
        disk = make_raw(tmp_path / f"{number}.raw")
        many.append(Tgtd("pc1", disk, (f"127.0.0.{number + 1}", port), tmp_path / str(number)))
    try:
        for one in many:
            one.start(Deadline(HANG))
            call = partial(one.ipc.call, deadline=Deadline(HANG))
            call(Mode.TARGET, Op.NEW, "targetname=iqn.2017-10.test:pc1", tid=1)
            call(Mode.DEVICE, Op.NEW, "path=/disk,bstype=rdwr", tid=1, lun=1)  # 16 threads
    finally:
        for one in many:
            one.stop(Deadline(HANG))
    assert len({one.user for one in many}) == len(many)


def test_it_has_no_right_left(run_dir: Path, export: Callable[[str], Export]) -> None:
    """The real tgtd of a host that may boot, as the kernel describes it.

    Before: root with every capability.
    Now: none, no way to get one (no_new_privs), a seccomp filter, limits.
    """
    export("pc1")
    pid = int((run_dir / "tgtd-pc1.pid").read_text())
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    status = {key: value.split() for key, _, value in (line.partition(":") for line in lines)}
    assert all(int(user) >= FIRST_USER for user in [*status["Uid"], *status["Gid"]])
    assert status["Groups"] == []
    for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[kind][0], 16) == 0, kind
    assert (status["NoNewPrivs"], status["Seccomp"]) == (["1"], ["2"])
    assert status["NSpid"] == [str(pid), "1"]
    limits = Path(f"/proc/{pid}/limits").read_text()
    for wanted in (f"Max address space +{MEMORY} +{MEMORY}", "Max core file size +0 +0",
                   f"Max file size +{5 << 20} +{5 << 20}", "Max processes +40 +40"):  # fmt: skip
        assert re.search(wanted, limits), limits
    assert int(Path(f"/proc/{pid}/oom_score_adj").read_text()) == 500
    opened = {str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()}
    assert {one for one in opened if one.startswith("/")} == {"/disk", "/dev/null"}

"""Store and target as a configuration makes them, with hosts whose guests are initiators here."""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cuckoo_zfsiscsi.cli import run
from cuckoo_zfsiscsi.config import Config, load
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.drivers import make_store, make_target
from cuckoo_zfsiscsi.disk.reset import Reset, arm, reset
from cuckoo_zfsiscsi.disk.store import Disk, Store
from cuckoo_zfsiscsi.disk.target import Export, Target
from cuckoo_zfsiscsi.progress import silent
from tests.iscsi import SECTOR, Initiator, _lib
from tests.waiting import HANG

MIB = 1 << 20
IMAGE = "golden"
_REGISTER, _RESERVE, _EXCLUSIVE_ACCESS = 0, 1, 3  # SPC-4, 6.16.2 and 5.9
CONF = """\
[zfsiscsi]
machines = {labels}
interface = lo
service = unix:///run/zfsiscsi-test.sock

[storage]
store = zfs
pool = {pool}
target = lio
portal = 127.0.0.1
portal_port = {port}
iqn = iqn.2026-01.org.example.test

[netboot]
interface = lo
address = 10.99.0.1/16
"""
HOST = """
[{label}]
label = {label}
platform = linux
arch = x64
ip = 10.99.1.{number}
snapshot = golden
mac = 52:54:00:00:00:{number:02x}
power = ipmi://admin@10.98.0.{number}
reset = {mode}
"""


class Guest(Initiator):
    """An initiator with what only hostile guests do."""

    def unmap(self, lba: int, sectors: int) -> None:
        """Discard (SBC-3, 5.28)."""

        class Extent(ctypes.Structure):
            _fields_ = (("lba", ctypes.c_uint64), ("sectors", ctypes.c_uint32))

        one = Extent(lba, sectors)
        _lib.iscsi_unmap_sync.restype = ctypes.c_void_p
        self._result(_lib.iscsi_unmap_sync(self._context, self._lun, 0, 0, ctypes.byref(one), 1))

    def reserve(self) -> None:
        """Take the disk for this session alone, also across power losses (APTPL)."""

        class Parameters(ctypes.Structure):
            _fields_ = (
                ("key", ctypes.c_uint64),
                ("action_key", ctypes.c_uint64),
                ("spec_i_pt", ctypes.c_uint8),
                ("all_tg_pt", ctypes.c_uint8),
                ("aptpl", ctypes.c_uint8),
            )

        call = _lib.iscsi_persistent_reserve_out_sync
        call.restype = ctypes.c_void_p
        for action, kind, parameters in (
            (_REGISTER, 0, Parameters(0, 0xBAD, 0, 0, 1)),
            (_RESERVE, _EXCLUSIVE_ACCESS, Parameters(0xBAD, 0, 0, 0, 0)),
        ):
            self._result(call(self._context, self._lun, action, 0, kind, ctypes.byref(parameters)))


@dataclass
class Rig:
    """Opened store and target of some hosts."""

    config: Config
    store: Store
    target: Target

    def reset(self, host: str) -> Reset:
        in_place = self.config.host(host).reset == "rollback"
        return reset(
            self.store, self.target, host, IMAGE, in_place=in_place, deadline=Deadline(HANG)
        )

    def arm(self, disk: Disk) -> Export:
        return arm(self.store, self.target, disk, deadline=Deadline(HANG))

    def tidy(self, host: str) -> None:
        """Do what the service does behind the scenes."""
        deadline = Deadline(HANG)
        self.target.release(host, self.store.disks(host), deadline=deadline)
        self.store.discard_retired(host, deadline=deadline)
        spare = self.store.make_spare(host, IMAGE, deadline=deadline, progress=silent)
        self.target.prepare(spare, deadline=deadline)

    def boot(self, host: str) -> Export:
        """Reset and arm."""
        return self.arm(self.reset(host).disk)


def write_conf(
    folder: Path,
    *,
    pool: str,
    hosts: Sequence[str],
    mode: str | Mapping[str, str] = "swap",
    port: int = 3260,
) -> Path:
    """Write zfsiscsi.conf; the mode is how hosts are reset, all alike or by label."""
    path = folder / "zfsiscsi.conf"
    text = CONF.format(labels=",".join(hosts), pool=pool, port=port)
    for number, label in enumerate(hosts, 1):
        way = mode if isinstance(mode, str) else mode[label]
        text += HOST.format(label=label, number=number, mode=way)
    path.write_text(text)
    return path


def invoke(conf: Path, *words: str) -> tuple[int, str, str]:
    """Run our command line as a user does; return its exit code and what it printed, both ways.

    In this process: an interpreter takes seconds to start in an emulated machine.
    """
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run(["--conf", str(conf), *words])
    return code, out.getvalue(), err.getvalue()


def command(conf: Path, *words: str) -> str:
    """Run one that must work; return what it printed."""
    code, out, err = invoke(conf, *words)
    assert code == 0, out + err
    return out


def make_image(folder: Path, mebibytes: int) -> Path:
    """Write a disk file full of random data: every wrong block shows."""
    path = folder / "golden.raw"
    with path.open("wb") as file:
        for _ in range(mebibytes):
            file.write(os.urandom(MIB))
    return path


@contextmanager
def opened(conf: Path) -> Iterator[Rig]:
    config = load(conf)
    store, target = make_store(config), make_target(config)
    store.open()
    try:
        target.open(deadline=Deadline(HANG))
        try:
            yield Rig(config, store, target)
        finally:
            target.close()
    finally:
        store.close()


def content(export: Export, size: int) -> bytes:
    """Read the whole disk as its guest does."""
    with Initiator(export) as guest:
        return b"".join(guest.read(lba, MIB) for lba in range(0, size // SECTOR, MIB // SECTOR))


def wait_until_written(seconds: float = 0.2) -> None:
    """Give commands in flight time to be in flight."""
    time.sleep(seconds)

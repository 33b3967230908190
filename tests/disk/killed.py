"""Kills one operation with SIGKILL at its first step, its second, ... until it is done.

Run as a process of its own, which forks for each step. A step is whatever changes a file, or asks
tgtd for something. After each kill, who comes next must find all in order: check() says so.

    python -m tests.disk.killed SCENARIO DIRECTORY
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from cuckoo_zfsiscsi.daemon import Daemon, left_over
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.reset import arm
from cuckoo_zfsiscsi.disk.store import Disk
from cuckoo_zfsiscsi.disk.store.file import FileStore
from cuckoo_zfsiscsi.disk.target.tgt import TgtTarget
from cuckoo_zfsiscsi.disk.target.tgt_process import PID_FILES
from cuckoo_zfsiscsi.errors import UnprovenDiskError
from cuckoo_zfsiscsi.progress import silent
from tests.disk.content import files, make_raw, make_target, prove, seal, spare, swap
from tests.iscsi import free_port
from tests.waiting import HANG

STEPS = {
    "os.rename", "os.remove", "os.mkdir", "os.chmod", "os.truncate", "fcntl.ioctl",
    "fcntl.flock", "subprocess.Popen", "socket.connect",
}  # fmt: skip


class Scene:
    """A store with one image, whose host has a dirty disk."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.path = base / "store"
        self.source = make_raw(base / "source", 65536 * 3)
        self.store = FileStore(self.path)
        self.store.open()
        self.port = free_port()
        seal(self.store, "win10", self.source)
        self.dirty = swap(self.store, image="win10@1")

    def prepare(self) -> None:
        """Make the state before the operation."""
        for image in self.store.images():
            if image.version > 1:
                self.store.delete_image(image.ref)
        self.dirty = swap(self.store, image="win10@1")
        self.store.taint(self.dirty)

    def target(self) -> TgtTarget:
        """Return the target of the next service."""
        return make_target(self.base / "run", self.port)

    def check(self) -> None:
        """Be the next service: nothing doubtful is proven, and a reset comes out clean."""
        for path in exported(self.base / "run"):
            self._assert_unproven(path)  # before anything is put in order
        self.store.close()
        self.store = store = FileStore(self.path)
        store.open()
        assert not [name for name in files(self.path) if name.endswith(".part")]
        current = store.current("pc1")
        assert current is not None
        if current.generation == self.dirty.generation:
            self._assert_unproven(current.path)
        assert spare(store, image="win10@1").generation > self.dirty.generation
        disk = swap(store, image="win10@1")
        prove(store, disk)
        assert disk.path.read_bytes() == self.source.read_bytes()
        store.discard_retired("pc1", deadline=Deadline(HANG))
        left = {f"{disk.generation}.raw", f"{disk.generation}.json", "host.json"}
        assert files(self.path / "disks/pc1") == left, files(self.path / "disks/pc1")
        self._check_images()

    def _check_images(self) -> None:
        wanted = {"lock", "win10/last.json"}
        for image in self.store.images():
            raw = self.path / f"images/win10/{image.version}.raw"
            assert raw.read_bytes() == self.source.read_bytes()
            wanted |= {f"win10/{image.version}.raw", f"win10/{image.version}.json"}
        assert files(self.path / "images") == wanted, files(self.path / "images")

    def _assert_unproven(self, path: Path) -> None:
        disk = Disk("pc1", int(path.stem), "win10@1", path, "current")
        try:
            prove(self.store, disk)
        except UnprovenDiskError:
            return
        raise AssertionError(f"{disk} was proven")


def exported(run_dir: Path) -> list[Path]:
    """Return the disks that a tgtd which nobody looks after has open."""
    marks = left_over(run_dir, PID_FILES)
    pids = [pid for mark in marks for pid in Daemon(["tgtd"], mark)._leftovers()]
    links = [link for pid in pids for link in Path(f"/proc/{pid}/fd").iterdir()]
    opened = set()
    for link in links:
        with contextlib.suppress(FileNotFoundError):  # closed since it was listed
            found = link.stat()
            opened.add((found.st_dev, found.st_ino))
    return [
        raw
        for raw in (run_dir.parent / "store/disks").glob("*/*.raw")
        if (raw.stat().st_dev, raw.stat().st_ino) in opened
    ]


def _nothing(_scene: Scene) -> None:
    pass


def _import(scene: Scene) -> None:
    scene.store.import_image("win10", scene.source, deadline=Deadline(HANG), progress=silent)


def _newest(scene: Scene) -> str:
    return scene.store.images()[-1].ref


def _seal(scene: Scene) -> None:
    scene.store.seal(_newest(scene), deadline=Deadline(HANG), progress=silent)


def _import_and_seal(scene: Scene) -> None:
    _import(scene)
    _seal(scene)


def _delete(scene: Scene) -> None:
    scene.store.delete_image(_newest(scene))


def _make_spare(scene: Scene) -> None:
    spare(scene.store, image="win10@1")


def _swap(scene: Scene) -> None:
    swap(scene.store, image="win10@1")


def _discard(scene: Scene) -> None:
    scene.store.discard_retired("pc1", deadline=Deadline(HANG))


def _litter(scene: Scene) -> None:
    scene.store.close()
    for name in ("images/aa.part", "disks/pc1/999.raw", "disks/pc1/1.json.part"):
        (scene.path / name).touch()


def _open(scene: Scene) -> None:
    scene.store.open()


def _arm(scene: Scene) -> None:
    """Start tgtd and arm the clean disk. tgtd outlives us when we are killed."""
    disk, target = scene.store.current("pc1"), scene.target()
    assert disk is not None
    target.open(deadline=Deadline(HANG))
    arm(scene.store, target, disk, deadline=Deadline(HANG))


def _fence(scene: Scene) -> None:
    """Be the next service: the old tgtd goes, and nothing is exported."""
    target = scene.target()
    target.open(deadline=Deadline(HANG))
    assert exported(scene.base / "run") == []
    target.close()


Act = Callable[[Scene], None]

SCENARIOS: dict[str, tuple[Act, Act, Act]] = {
    "import": (_nothing, _import, _nothing),
    "seal": (_import, _seal, _nothing),
    "delete": (_import_and_seal, _delete, _nothing),
    "make_spare": (_nothing, _make_spare, _nothing),
    "swap": (_nothing, _swap, _nothing),
    "swap_to_spare": (_make_spare, _swap, _nothing),
    "discard": (_swap, _discard, _nothing),
    "open": (_litter, _open, _nothing),
    "arm": (_swap, _arm, _fence),
}
"""What is done before, what is killed, and what the next service does after the checks."""


def die_at(step: int) -> None:
    """Let this process be killed just before its so-many-th step."""
    count = 0

    def tick() -> None:
        nonlocal count
        count += 1
        if count == step:
            os.kill(os.getpid(), signal.SIGKILL)

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & 0o103
        if event in STEPS or writes:
            tick()

    def fsync(handle: int, real: Callable[[int], None] = os.fsync) -> None:
        tick()
        real(handle)

    os.fsync = fsync  # type: ignore[assignment]
    sys.addaudithook(hook)


def main(scenario: str, base: Path) -> int:
    """Run it; print how many steps there were."""
    before, act, after = SCENARIOS[scenario]
    scene = Scene(base)
    step = 0
    while True:
        step += 1
        scene.prepare()
        before(scene)
        if (child := os.fork()) == 0:
            die_at(step)
            try:
                act(scene)
            except BaseException:  # noqa: BLE001 - a forked child must not go on
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        try:
            scene.check()
            after(scene)
        except BaseException:
            sys.stderr.write(f"killed at step {step}\n")
            raise
        if status == 0:
            print(step)  # noqa: T201 - for the test
            return 0
        if status != signal.SIGKILL:
            sys.stderr.write(f"status {status} at step {step}\n")
            return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))

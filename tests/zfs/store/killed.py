"""Kills one operation with SIGKILL at some of its steps, the first and the last included.

Run as a process of its own, which forks for each step. A step is whatever changes the pool. After
each kill, the next service must find all in order: check() says so. KILLS=all kills at every step:
a quarter of an hour in an emulated machine.

    python -m tests.zfs.store.killed SCENARIO PARENT DIRECTORY
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.store import Disk, zfs_images
from cuckoo_zfsiscsi.disk.store.zfs import ZfsStore
from cuckoo_zfsiscsi.disk.store.zfs_call import Zfs
from cuckoo_zfsiscsi.disk.store.zfs_rules import HostRules, Rules
from cuckoo_zfsiscsi.errors import DiskError
from cuckoo_zfsiscsi.progress import silent
from tests.disk.content import make_raw, prove, seal, spare, swap
from tests.waiting import HANG
from tests.zfs.device import device_of, read, write
from tests.zfs.zfs import get, holds, names

DIRT = b"infected" * 2048
KILLS = os.environ.get("KILLS", "3")
"""How many steps; all of them with "all"."""


class Scene:
    """A store with one image, whose host has a dirty disk."""

    def __init__(self, parent: str, base: Path, *, evidence: int) -> None:
        self.source = make_raw(base / "source", 1 << 20)
        self.parent = parent
        self.rules = Rules({"pc1": HostRules(evidence=evidence)})
        self.store = self.service()
        seal(self.store, "win10", self.source)
        self.store.close()
        self.last = 0

    def service(self) -> ZfsStore:
        """Begin as a service does."""
        store = ZfsStore(self.parent, self.rules)
        store.open()
        return store

    def prepare(self) -> None:
        """Make the state before the operation."""
        for image in self.store.images():
            if image.version > 1:
                self.store.delete_image(image.ref)
        disk = swap(self.store, image="win10@1")
        self.last = disk.generation
        self.store.taint(disk)
        write(disk.path, 16384, DIRT)

    def check(self) -> None:
        """Be the next service: nothing doubtful is proven, and a reset comes out clean."""
        self.store = store = self.service()
        layout = store.layout
        assert names(layout.imports) == set()
        for disk in store.disks("pc1"):
            if disk.role == "current":
                self._assert_unproven(disk)
            elif disk.role == "spare":
                prove(store, disk)
        store.discard_retired("pc1", deadline=Deadline(HANG))
        disk = swap(store, image="win10@1")
        assert disk.generation > self.last
        self.last = disk.generation
        prove(store, disk)
        assert read(disk.path) == self.source.read_bytes()
        store.discard_retired("pc1", deadline=Deadline(HANG))
        (left,) = names(layout.host("pc1"), "volume")
        assert holds(f"{layout.host('pc1')}/{left}@base") == ["zfsiscsi"]
        self._check_evidence()
        self._check_images()

    def _check_evidence(self) -> None:
        for one in self.store.evidence.all(deadline=Deadline(HANG)):
            assert get(one.dataset, "zfsiscsi:role") == "evidence"
            assert get(one.dataset, "readonly") == "on"
            assert holds(f"{one.dataset}@evidence") == ["zfsiscsi"]
            device = device_of(one.dataset)
            assert read(device)[16384:][: len(DIRT)] == DIRT

    def _check_images(self) -> None:
        for image in self.store.images():
            dataset = self.store.layout.image(image.name, image.version)
            if image.sealed:
                assert holds(f"{dataset}@sealed") == ["zfsiscsi"]
                assert get(dataset, "readonly") == "on"
            device = device_of(dataset)
            assert read(device) == self.source.read_bytes()

    def _assert_unproven(self, disk: Disk) -> None:
        try:
            prove(self.store, disk)
        except DiskError:
            return
        raise AssertionError(f"{disk} was proven")


def _nothing(_store: ZfsStore, _scene: Scene) -> None:
    pass


def _import(store: ZfsStore, scene: Scene) -> None:
    store.import_image("win10", scene.source, deadline=Deadline(HANG), progress=silent)


def _newest(store: ZfsStore) -> str:
    return store.images()[-1].ref


def _seal(store: ZfsStore, _scene: Scene) -> None:
    store.seal(_newest(store), deadline=Deadline(HANG), progress=silent)


def _import_and_seal(store: ZfsStore, scene: Scene) -> None:
    _import(store, scene)
    _seal(store, scene)


def _delete(store: ZfsStore, _scene: Scene) -> None:
    store.delete_image(_newest(store))


def _edit(store: ZfsStore, _scene: Scene) -> None:
    store.edit_image("pc1", "win10", deadline=Deadline(HANG))


def _make_spare(store: ZfsStore, _scene: Scene) -> None:
    spare(store, image="win10@1")


def _swap(store: ZfsStore, _scene: Scene) -> None:
    """Reset and arm the host; its guest writes at once."""
    disk = swap(store, image="win10@1")
    prove(store, disk)
    store.taint(disk)
    write(disk.path, 16384, DIRT)
    store.close()


def _rollback(store: ZfsStore, _scene: Scene) -> None:
    disk = store.rollback("pc1", "win10@1", deadline=Deadline(HANG))
    prove(store, disk)
    store.taint(disk)
    write(disk.path, 16384, DIRT)


def _discard(store: ZfsStore, _scene: Scene) -> None:
    store.discard_retired("pc1", deadline=Deadline(HANG))


Act = Callable[[ZfsStore, Scene], None]

SCENARIOS: dict[str, tuple[Act, Act, int]] = {
    "import": (_nothing, _import, 0),
    "seal": (_import, _seal, 0),
    "delete": (_import_and_seal, _delete, 0),
    "edit": (_nothing, _edit, 0),
    "make_spare": (_nothing, _make_spare, 0),
    "swap": (_make_spare, _swap, 0),
    "rollback": (_nothing, _rollback, 0),
    "discard": (_swap, _discard, 0),
    "evidence": (_swap, _discard, 1),
    "open": (_nothing, _nothing, 0),
}
"""What is done before, what is killed, and how many dirty disks are kept."""


def die_at(step: int, count: Path) -> None:
    """Let this process be killed just before its so-many-th step; each is counted in a file."""
    done = 0

    def ticking(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: object, **more: object) -> object:
            nonlocal done
            done += 1
            count.write_text(str(done))
            if done == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **more)

        return call

    for name in ("_change", "_lzc", "command"):
        setattr(Zfs, name, ticking(getattr(Zfs, name)))
    zfs_images.convert = ticking(zfs_images.convert)  # type: ignore[attr-defined]


def child(scene: Scene, scenario: str, step: int, count: Path) -> int:
    """Do the operation in a process that is killed at this step (0: never); return how it ended."""
    if (pid := os.fork()) == 0:
        try:
            if scenario == "open":
                die_at(step, count)
            store = scene.service()
            SCENARIOS[scenario][0](store, scene)
            if scenario in ("discard", "evidence"):
                store.open()
            if scenario != "open":
                die_at(step, count)
            SCENARIOS[scenario][1](store, scene)
        except BaseException:  # noqa: BLE001 - a forked child must not go on
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitpid(pid, 0)[1]


def chosen(last: int) -> list[int]:
    """Return the steps to kill at."""
    if KILLS == "all" or last <= int(KILLS):
        return list(range(1, last + 1))
    gaps = int(KILLS) - 1
    return sorted({1 + (last - 1) * n // gaps for n in range(gaps + 1)})


def main(scenario: str, parent: str, base: Path) -> int:
    """Run it; print the steps that it was killed at."""
    scene = Scene(parent, base, evidence=SCENARIOS[scenario][2])
    count = base / "count"
    scene.store = scene.service()
    killed: list[int] = []
    todo = [0]  # undisturbed at first: how many steps are there?
    while todo:
        step = todo.pop(0)
        scene.prepare()
        scene.store.close()
        status = child(scene, scenario, step, count)
        # Roles are put on record in the background, now in one step, now in two: it may be done
        if status not in (0, signal.SIGKILL):
            sys.stderr.write(f"status {status} at step {step}\n")
            return 1
        try:
            scene.check()
        except BaseException:
            sys.stderr.write(f"killed at step {step}\n")
            raise
        if status:
            killed.append(step)
        elif not step:
            todo = chosen(int(count.read_text()))
    print(*killed)  # noqa: T201 - for the test
    scene.store.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], Path(sys.argv[3])))

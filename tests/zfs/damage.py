"""What a guest does to its disk before the reset: each kind by a real initiator.

As a program it does all of them to as many hosts, one each, and begins every reset, so that the
storage server can lose its power meanwhile; or it looks at all of them afterwards:

    python3 -m tests.zfs.damage {prepare,damage,verify} CONF IMAGE
"""

from __future__ import annotations

import contextlib
import os
import random
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from cuckoo_zfsiscsi.disk.target import Export
from tests.iscsi import SECTOR, Initiator, LoginError
from tests.waiting import HANG
from tests.zfs.rig import IMAGE, MIB, Guest, Rig, command, content, opened

BLOCK = 4096
RANDOM_WRITES = 10_000


class Scene:
    """One host that runs, its guest logged in, and what it does in threads of its own."""

    def __init__(self, rig: Rig, host: str, export: Export, size: int) -> None:
        self.rig, self.host, self.export, self.size = rig, host, export, size
        self.guest = Guest(export)
        self.threads: list[threading.Thread] = []
        self.refused: list[str] = []

    def go_on(self, work: Callable[[], None]) -> None:
        """Do something until the session is dropped."""

        def body() -> None:
            with contextlib.suppress(OSError):
                while True:
                    work()

        self.threads.append(threading.Thread(target=body, daemon=True))
        self.threads[-1].start()

    def end(self) -> None:
        for thread in self.threads:
            thread.join(HANG)
            assert not thread.is_alive(), "the fence did not end the session"
        self.guest.__exit__(None, None, None)


def overwrite_all(scene: Scene) -> None:
    for lba in range(0, scene.size // SECTOR, MIB // SECTOR):
        scene.guest.write(lba, os.urandom(MIB))


def overwrite_start(scene: Scene) -> None:
    for number in range(2):
        scene.guest.write(number * MIB // SECTOR, os.urandom(MIB))


def overwrite_partition_table(scene: Scene) -> None:
    scene.guest.write(0, os.urandom(SECTOR))
    scene.guest.write(1, os.urandom(33 * SECTOR))  # GPT, and its copy at the end (UEFI, 5.3)
    scene.guest.write(scene.size // SECTOR - 33, os.urandom(33 * SECTOR))


def write_at_random(scene: Scene) -> None:
    chance = random.Random(scene.host)  # noqa: S311 - the same places each time
    for _ in range(RANDOM_WRITES):
        block = chance.randrange(scene.size // BLOCK)
        scene.guest.write(block * BLOCK // SECTOR, os.urandom(BLOCK))


def unmap_all(scene: Scene) -> None:
    for lba in range(0, scene.size // SECTOR, MIB // SECTOR):
        scene.guest.unmap(lba, MIB // SECTOR)
    assert scene.guest.read(0, BLOCK) == bytes(BLOCK), "nothing was unmapped"


def reserve(scene: Scene) -> None:
    scene.guest.reserve()
    scene.guest.write(0, os.urandom(BLOCK))


def leave_session_open(scene: Scene) -> None:
    scene.guest.write(0, os.urandom(BLOCK))


def write_during_fence(scene: Scene) -> None:
    scene.go_on(lambda: scene.guest.write(0, os.urandom(MIB)))


def reuse_old_secret(scene: Scene) -> None:
    scene.guest.write(0, os.urandom(BLOCK))

    def log_in_again() -> None:
        with contextlib.suppress(LoginError), Initiator(scene.export) as old:
            old.write(0, os.urandom(MIB))

    scene.go_on(log_in_again)
    del scene.threads[-1]  # it never gives up


def claim_siblings_name(scene: Scene) -> None:
    """Log in to another host's target as this one, and with its name as that one."""
    scene.guest.write(0, os.urandom(BLOCK))
    for claim in (
        replace(scene.export, target=f"{scene.export.target.rpartition(':')[0]}:sibling"),
        replace(
            scene.export,
            credentials=replace(scene.export.credentials, initiator="iqn.2026-01.org.example:x"),
        ),
    ):
        try:
            with Initiator(claim) as guest:
                guest.write(0, os.urandom(MIB))
        except (LoginError, OSError) as error:
            scene.refused.append(str(error))
    assert len(scene.refused) == 2, "a claimed name was let in"


DAMAGES: dict[str, Callable[[Scene], None]] = {
    "overwrite-all": overwrite_all,
    "overwrite-start": overwrite_start,
    "partition-table": overwrite_partition_table,
    "random-writes": write_at_random,
    "unmap-all": unmap_all,
    "reservation": reserve,
    "session-open": leave_session_open,
    "writes-in-flight": write_during_fence,
    "old-secret": reuse_old_secret,
    "siblings-name": claim_siblings_name,
}
HOSTS = [*DAMAGES, "sibling"]


def check_clean(export: Export, image: bytes) -> None:
    """Every byte is the image's, and the disk can be written: no reservation is left."""
    found = content(export, len(image))
    assert found == image, f"{sum(a != b for a, b in zip(found, image, strict=True))} bytes differ"
    with Initiator(export) as guest:
        guest.write(0, image[:SECTOR])


@contextlib.contextmanager
def running(rig: Rig, host: str, size: int) -> Iterator[Scene]:
    scene = Scene(rig, host, rig.boot(host), size)
    yield scene
    scene.end()


def main(step: str, conf: Path, image: Path) -> None:
    if step == "prepare":
        command(conf, "storage", "init", "tank")
        command(conf, "image", "import", IMAGE, str(image))
    with opened(conf) as rig:
        if step == "damage":
            scenes = [_damage(rig, host, image.stat().st_size) for host in HOSTS]
            resets = [threading.Thread(target=rig.boot, args=[scene.host]) for scene in scenes]
            print("resetting", flush=True)  # noqa: T201 - the power fails from here on
            for thread in resets:
                thread.start()
            for thread in resets:
                thread.join()
        for host in HOSTS:
            if step == "verify":
                check_clean(rig.boot(host), image.read_bytes())
                print(f"{host} is clean", flush=True)  # noqa: T201
            rig.tidy(host)
    if step == "damage":
        os._exit(0)


def _damage(rig: Rig, host: str, size: int) -> Scene:
    scene = Scene(rig, host, rig.boot(host), size)
    DAMAGES.get(host, leave_session_open)(scene)
    return scene


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))

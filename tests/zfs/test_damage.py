"""Whatever the guest did, after the reset its disk is the image, byte for byte."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.matrix import matrix
from tests.zfs.damage import DAMAGES, check_clean, running
from tests.zfs.rig import IMAGE, Rig, command, make_image, opened, write_conf
from tests.zfs.zfs import destroy_pool

SIZE = 16
"""MiB."""
GATE = ("overwrite-all", "old-secret")


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_image(tmp_path_factory.mktemp("image"), SIZE)


@pytest.fixture(scope="module", params=["swap", "rollback"])
def rig(
    request: pytest.FixtureRequest, image: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Rig]:
    folder = tmp_path_factory.mktemp("pool")
    disk = folder / "disk"
    disk.touch()
    with disk.open("r+b") as file:
        file.truncate(2 << 30)
    name = f"damage-{request.param}"
    argv = ["zpool", "create", "-o", "ashift=12", "-o", "cachefile=none", "-m", "none", name]
    subprocess.run([*argv, str(disk)], check=True)
    try:
        conf = write_conf(folder, pool=name, hosts=["pc1", "sibling"], mode=request.param)
        command(conf, "storage", "init", name)
        command(conf, "image", "import", IMAGE, str(image))
        with opened(conf) as rig:
            rig.boot("sibling")
            yield rig
    finally:
        destroy_pool(name)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("damage", matrix(DAMAGES, GATE.__contains__))
def test_reads_back_as_the_image(rig: Rig, image: Path, damage: str) -> None:
    rig.tidy("pc1")
    with running(rig, "pc1", SIZE << 20) as scene:
        DAMAGES[damage](scene)
        done = rig.reset("pc1")
        assert ("rollback" in done.seconds) == (rig.config.host("pc1").reset == "rollback")
        check_clean(rig.arm(done.disk), image.read_bytes())

"""The storage server loses its power in the middle of resets; what comes back is clean."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Literal

import pytest

from cuckoo_zfsiscsi.lab.appliance.appliance import Appliance
from cuckoo_zfsiscsi.lab.appliance.image import build, default_cache
from tests.zfs.damage import HOSTS
from tests.zfs.rig import make_image, write_conf

SIZE = 16
"""MiB."""
STEP = 3600.0
"""Seconds for one step in an emulated machine."""
MOMENTS = 3.0
"""Seconds within which the resets of all hosts are under way."""


@pytest.mark.matrix
@pytest.mark.lab
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("mode", ["swap", "rollback"])
def test_power_fails_during_resets(tmp_path: Path, mode: Literal["swap", "rollback"]) -> None:
    """One host for each kind of damage; all are reset when the power fails."""
    image = build(default_cache(), progress=lambda _: None)
    appliance = Appliance(tmp_path / "server", image)
    appliance.out.mkdir(parents=True)
    make_image(appliance.out, SIZE)
    write_conf(appliance.out, pool="tank", hosts=HOSTS, mode=mode)
    said = bytearray()

    def listen(_stream: Literal["out", "err"], data: bytes) -> None:
        said.extend(data)
        if b"resetting" in said and appliance.is_on:
            time.sleep(random.uniform(0, MOMENTS))  # noqa: S311 - any moment will do
            appliance.power_fail()

    with appliance:
        pool = ["zpool", "create", "-o", "ashift=12", "-m", "none", "tank", "/dev/vdb"]
        appliance.output(pool, timeout=STEP)
        appliance.output(_program("prepare"), timeout=STEP)
        with pytest.raises(Exception, match=r"off|gone|closed|power"):
            appliance.run(_program("damage"), timeout=STEP, on_output=listen)
        assert b"resetting" in said, said.decode(errors="replace")
        appliance.start()
        found = appliance.output(_program("verify"), timeout=STEP)
    assert found.splitlines() == [f"{host} is clean" for host in HOSTS]


def _program(step: str) -> list[str]:
    files = ["/out/zfsiscsi.conf", "/out/golden.raw"]
    return ["/usr/bin/python3", "-m", "tests.zfs.damage", step, *files]

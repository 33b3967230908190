"""The ZFS benches take a whole disk: not that of another machine."""

from __future__ import annotations

import pytest

from bench import zfs


def test_only_in_the_appliance() -> None:
    with (
        pytest.raises(SystemExit, match="overwrites /dev/vdb, so it runs in the appliance only"),
        zfs.rig(["pc1"], "swap", size=64),
    ):
        pass

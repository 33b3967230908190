from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.cli import run
from tests.disk.content import make_raw

CONF = """
[zfsiscsi]
machines = pc1
interface = lo
service = unix:///run/zfsiscsi/api.sock
[storage]
store = zfs
pool = {pool}
target = lio
portal = 127.0.0.1
iqn = iqn.2017-10.test.cli
[netboot]
interface = lo
address = 127.0.0.1/8
[pc1]
label = pc1
platform = windows
arch = x64
ip = 127.0.0.11
tags = win10,x64
snapshot = win10
mac = 00:11:22:33:44:55
firmware = bios
power = ipmi://admin@127.0.0.12
evidence = 2
"""

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def conf(tmp_path: Path, parent: str) -> Path:
    path = tmp_path / "zfsiscsi.conf"
    path.write_text(CONF.format(pool=parent))
    return path


@pytest.fixture
def cli(conf: Path, capfd: pytest.CaptureFixture[str]) -> Cli:
    def call(*arguments: str | Path) -> tuple[int, str, str]:
        code = run(["--conf", str(conf), *map(str, arguments)])
        return (code, *capfd.readouterr())

    return call


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_raw(tmp_path / "disk.raw", 4 << 20)

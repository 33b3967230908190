"""A plan over two environments of one server: the sample in question hides from the virtual one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cuckoo_zfsiscsi.compare.plan import Plan, read_plan
from tests.compare.fake_cape import FakeCape, make_report

PLAN = """\
[compare]
baseline = benign
repeat = {repeat}
timeout = 60
route = none

[samples]
hides = hides
loud = loud

[kvm]
server = http://cape.test:8000
kind = virtual
machine = win7-kvm
rate = 6000

[metal]
server = http://cape.test:8000
kind = physical
tags = physical,win7
rate = 6000
"""
UPDATE = {"update.test": ["192.0.2.80"]}
Play = Callable[[bytes, str], Any]


def play(content: bytes, machine: str) -> Any:
    """Do what the sample does there, and what the system does by itself."""
    usual: dict[str, Any] = {"tcp": ["192.0.2.80:443"], "hosts": ["192.0.2.80"], "dns": UPDATE}
    if content == b"loud" or (content == b"hides" and machine != "win7-kvm"):
        c2 = {"c2.test": ["198.51.100.6"]}
        usual = {
            "tcp": ["192.0.2.80:443", "198.51.100.6:8443"],
            "hosts": ["192.0.2.80", "198.51.100.6"],
            "dns": {**UPDATE, **c2},
        }
    return make_report(machine, **usual)


@pytest.fixture
def write_plan(tmp_path: Path) -> Callable[..., Plan]:
    for name in ("benign", "hides", "loud"):
        (tmp_path / name).write_text(name)

    def write(repeat: int = 1, change: Callable[[str], str] = str) -> Plan:
        path = tmp_path / "compare.ini"
        path.write_text(change(PLAN.format(repeat=repeat)))
        return read_plan(path)

    return write


@pytest.fixture
def cape() -> FakeCape:
    return FakeCape(play, {"win7-kvm": ["win7"], "pc1": ["win7", "physical"], "pc2": ["win10"]})

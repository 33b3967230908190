"""zfsiscsi compare with the real CAPE and two hosts, of which one says that it is virtual.

Needs the same as test_real_cape.py.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.compare.verdict import State
from cuckoo_zfsiscsi.errors import LabError
from cuckoo_zfsiscsi.lab import cape_sample, conf, qemu
from cuckoo_zfsiscsi.lab import network as net
from cuckoo_zfsiscsi.lab.cape_client import URL
from tests.cape import real
from tests.cape.real import CLEAN, Rig

pytestmark = [pytest.mark.cape, pytest.mark.timeout(2400)]

JOURNAL = "compare.ini.compare/journal"
VIRTUAL, PHYSICAL = conf.label(1), conf.label(2)
PLAN = f"""\
[compare]
baseline = benign.py
platform = linux
package = python
route = none
timeout = 60

[samples]
open = open.py
evasive = evasive.py

[VM]
server = {URL}
kind = virtual
machine = {VIRTUAL}
rate = 600

[physical]
server = {URL}
kind = physical
machine = {PHYSICAL}
rate = 600
"""


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with real.up(prewarm=False, more=[conf.Host(qemu=qemu.PHYSICAL)]) as made:
        yield made


@pytest.fixture
def plan(rig: Rig) -> Path:
    folder = rig.lab.at / "compare"
    folder.mkdir()
    (folder / "benign.py").write_text("print('benign')\n")
    cape_sample.write(folder, "open")
    cape_sample.write(folder, "evasive", evasive=True)
    path = folder / "compare.ini"
    path.write_text(PLAN)
    return path


def test_what_hides_from_a_virtual_machine(rig: Rig, plan: Path) -> None:
    """Table 2 of the real CAPE's reports; interrupted once, and nothing is submitted twice."""
    pages = {kind: rig.kept / f"compare.{kind}" for kind in ("txt", "html", "csv", "json")}
    argv = [*rig.lab.network.prefix, sys.executable, "-m", "cuckoo_zfsiscsi", "compare", str(plan)]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as first:
        assert first.stderr
        assert b"task" in first.stderr.readline()
        first.kill()
    show = ["--again", "--html", str(pages["html"]), "--csv", str(pages["csv"])]
    wide = {**os.environ, "COLUMNS": "100"}
    for _ in range(3):  # a boot that comes too late on a busy machine costs a run
        with pages["txt"].open("w") as text:
            subprocess.run([*argv, *show], stdout=text, env=wide, timeout=2000, check=True)
        if State.FAILURE.value not in pages["csv"].read_text():
            break
    done = subprocess.run([*argv, "--show", "--json"], capture_output=True, check=True)
    pages["json"].write_bytes(done.stdout)

    samples = {one["sample"]: one for one in json.loads(done.stdout)["samples"]}
    found = {
        (name, environment): entry["runs"][0]
        for name, sample in samples.items()
        for environment, entry in sample["environments"].items()
    }
    c2 = f"{cape_sample.ADDRESS}:{cape_sample.PORT}"
    for cell in (("open", "VM"), ("open", "physical"), ("evasive", "physical")):
        assert found[cell]["state"] == "contacted"
        assert c2 in found[cell]["why"]
    assert found["evasive", "VM"]["state"] in ("ran", "did not run")
    for (_, environment), run in found.items():
        assert run["machine"] == (VIRTUAL if environment == "VM" else PHYSICAL)
    assert samples["open"]["evasive"] is False
    assert samples["evasive"]["evasive"] is True
    assert "yes: ran on physical only" in pages["txt"].read_text()
    # What C2 itself knows of it
    addresses = [str(net.host_address(number)) for number in (1, 2)]
    assert rig.callers == {"open": set(addresses), "evasive": {addresses[1]}}
    assert rig.told == {"open": CLEAN, "evasive": CLEAN}
    steps = [json.loads(line) for line in (plan.parent / JOURNAL).read_text().splitlines()]
    submitted = [step["task"] for step in steps if step["step"] == "submitted"]
    again = sum(step["step"] == "again" for step in steps)
    tasks = 2 + len(found) + again  # 2: the baselines
    assert sorted(submitted) == list(range(1, tasks + 1))
    with pytest.raises(LabError, match="not found"):
        rig.client.view(tasks + 1)

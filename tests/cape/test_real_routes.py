"""A task of the real CAPE for each route, with its real rooter, and what comes of it.

Needs the same as test_real_cape.py.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from cuckoo_zfsiscsi.lab.cape_client import URL
from cuckoo_zfsiscsi.lab.conf import LABEL
from cuckoo_zfsiscsi.lab.routes import place as places
from cuckoo_zfsiscsi.lab.routes.outside import ROUTING
from cuckoo_zfsiscsi.lab.routes.route import Route
from cuckoo_zfsiscsi.netboot.resolver import find_resolver
from tests.cape import real
from tests.cape.real import Rig

pytestmark = [pytest.mark.cape, pytest.mark.timeout(2400)]

ROUTING_CONF = f"""\
[routing]
route = none
internet = {ROUTING.internet}
rt_table = {ROUTING.rt_table}
[inetsim]
enabled = yes
server = {ROUTING.inetsim_server}
interface = {ROUTING.inetsim}
"""
CALLER = f"""\
import time, urllib.request
end = time.monotonic() + 30
while time.monotonic() < end:
    try:
        print(urllib.request.urlopen("http://{places.C2_NAME}/", timeout=5).read())
        break
    except OSError:
        time.sleep(1)
"""
PLAN = f"""\
[compare]
baseline = benign.py
platform = linux
package = python
route = {{route}}
timeout = 60

[samples]
caller = caller.py
quiet = quiet.py

[physical]
server = {URL}
kind = physical
machine = {LABEL}
rate = 600
"""


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with real.up(prewarm=True, routing=ROUTING_CONF) as made:
        if resolver := find_resolver(()):  # CAPE itself asks it, and captures can't tell who does
            made.cape.server.namespace.ip(f"route add unreachable {resolver}")
        yield made


def compare(rig: Rig, route: Route) -> dict[str, dict[str, Any]]:
    """Run samples by zfsiscsi compare; return what it makes of each."""
    folder = rig.lab.at / f"compare-{route}"
    folder.mkdir()
    (folder / "benign.py").write_text("print('benign')\n")
    (folder / "quiet.py").write_text("print('quiet')\n")
    (folder / "caller.py").write_text(CALLER)
    plan = folder / "compare.ini"
    plan.write_text(PLAN.format(route=route))
    prefix = rig.cape.server.namespace.prefix
    argv = [*prefix, sys.executable, "-m", "cuckoo_zfsiscsi", "compare", str(plan)]
    done = subprocess.run([*argv, "--json"], capture_output=True, check=True, timeout=2000)
    return {
        str(one["sample"]): one["environments"]["physical"]["runs"][0]
        for one in json.loads(done.stdout)["samples"]
    }


@pytest.mark.parametrize(
    ("route", "state", "answers"),
    [
        ("none", "tried", []),
        ("drop", "tried", []),
        ("internet", "contacted", [places.C2]),
        ("inetsim", "contacted", [places.INETSIM.ip]),
    ],
)
def test_route(rig: Rig, route: Route, state: str, answers: list[object]) -> None:
    outside = rig.lab.outside
    assert outside
    rig.wait(lambda: rig.lab.client.host(LABEL)["state"] == "ready", "the prewarmed host")
    begun = outside.now()
    found = compare(rig, route)
    rig.wait(lambda: rig.lab.client.host(LABEL)["state"] == "ready", "the prewarmed host")
    seen = outside.seen(begun)

    assert found["caller"]["state"] == state, found
    assert found["quiet"]["state"] in ("ran", "did not run")
    task = int(found["caller"]["task"])
    assert (rig.client.view(task)["status"], rig.client.view(task)["errors"]) == ("reported", [])
    network = rig.client.report(task)["network"]
    assert places.C2_NAME in {one["request"] for one in network["dns"]}
    named = {a["data"] for one in network["dns"] for a in one["answers"]}
    assert named == {str(one) for one in answers}
    assert [one["host"] for one in network["http"]] == [places.C2_NAME] * len(answers)
    assert not any(3271 in (tcp["sport"], tcp["dport"]) for tcp in network["tcp"])
    assert seen.faults(route) == []
    assert seen.c2 == (route == "internet")
    assert seen.inetsim == (route == "inetsim")
    assert seen.iscsi > 0

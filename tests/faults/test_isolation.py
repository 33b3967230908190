"""zfsiscsi netboot isolation, with real guests' networks: on a bridge, and with isolated ports."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.farm import Farm
from tests.faults.forked import ForkServer


@pytest.fixture
def farm(tmp_path: Path, forks: ForkServer) -> Iterator[Farm]:
    made = Farm(tmp_path, 2, forks)
    try:
        made.open()
        yield made
    finally:
        made.close()


def test_two_hosts_prove_it(farm: Farm) -> None:
    farm.start()
    assert [net["state"] for net in farm.client.networks()] == ["not known"]
    code, said = farm.command("netboot", "isolation")
    assert (code, "not isolated" in said) == (1, True), said
    why = farm.client.networks()[0]["why"]
    assert re.fullmatch(r"pc[12] reached pc[12] by TCP (8000|135)", why)

    for number in (1, 2):
        farm.network.run(["bridge", "link", "set", "dev", f"host{number}", "isolated", "on"])
        farm.inside(number, "ip", "neigh", "flush", "all")  # as a system that has just booted
    code, said = farm.command("netboot", "isolation")
    assert (code, "isolated" in said, "not isolated" in said) == (0, True, False), said
    assert [net["state"] for net in farm.client.networks()] == ["isolated"]
    assert set(farm.states().values()) <= {"dirty", "clean", "stopping"}, "it stops what it began"

    farm.kill()  # what was found is on record
    farm.start()
    assert [net["state"] for net in farm.client.networks()] == ["isolated"]
    code, said = farm.command("check")
    assert "network netboot: its hosts are isolated: no host has reached another since" in said


def test_a_sample_has_no_say(farm: Farm) -> None:
    farm.start()
    for label in farm.labels:
        farm.client.start(label, 60.0, "7")
    code, said = farm.command("netboot", "isolation")
    assert code == 1
    assert "two free hosts are needed" in said

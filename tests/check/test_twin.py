"""Two servers that were cloned from one template."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.check import Finding
from cuckoo_zfsiscsi.check.twin import check_twins
from tests.config.sample import edit, read
from tests.netboot.network import Network, inside, make_network


@pytest.fixture
def net() -> Iterator[Network]:
    with make_network(f"twin{os.getpid()}") as network:
        yield network


def look(net: Network, folder: Path) -> list[Finding]:
    config = read(folder, edit(("[netboot]\ninterface = br-lab", "[netboot]\ninterface = boot0")))
    with inside(net.server):
        return list(check_twins(config))


def test_a_second_server_with_the_same_address_is_found(net: Network, tmp_path: Path) -> None:
    """A copy of this server is switched on beside it, with the same addresses and names.

    Before: nobody noticed, and hosts found the disks of the one or of the other.
    Now: `check` says so.
    """
    assert look(net, tmp_path) == []
    net.run(net.hosts, "ip addr add 10.99.0.1/24 dev nic0")
    (found,) = look(net, tmp_path)
    assert found.level == "error"
    assert "another machine has 10.99.0.1 as well" in found.what
    assert "[netboot] interface = boot0" in found.where
    assert found.fix


def test_without_its_interface_nothing_is_asked(tmp_path: Path) -> None:
    config = read(tmp_path, edit(("[netboot]\ninterface = br-lab", "[netboot]\ninterface = none0")))
    assert list(check_twins(config)) == []

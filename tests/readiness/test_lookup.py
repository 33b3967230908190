from __future__ import annotations

import typing

import pytest

from cuckoo_zfsiscsi.config import HostConfig
from cuckoo_zfsiscsi.errors import ConfigError
from cuckoo_zfsiscsi.readiness import agent, rpc
from cuckoo_zfsiscsi.readiness.lookup import find_probe, probes


def test_by_name() -> None:
    assert find_probe("rpc") is rpc.probe
    assert find_probe("agent") is agent.probe


def test_every_probe_that_can_be_configured_is_there() -> None:
    ready = typing.get_type_hints(HostConfig)["ready"]
    names = {name for part in typing.get_args(ready) for name in typing.get_args(part)}
    assert names == set(probes())


@pytest.mark.parametrize("name", ["telepathy", "stream", "lookup", "", "os"])
def test_no_probe(name: str) -> None:
    with pytest.raises(ConfigError, match=f"there is no probe {name}") as unknown:
        find_probe(name)
    assert unknown.value.fix == "use agent, rpc"

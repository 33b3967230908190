from __future__ import annotations

from typing import Any

import pytest

from cuckoo_zfsiscsi.config import load
from cuckoo_zfsiscsi.service.cape_view import cape_view
from tests.config.sample import EXAMPLE

POWERLESS = {"power": (), "power_on": None, "power_off": None}


@pytest.mark.parametrize(
    ("keys", "listed"),
    [({}, True), ({"reset_on": "boot"}, True), ({"reset_on": "boot", **POWERLESS}, False)],
)
def test_hosts_that_can_be_started_and_stopped(keys: dict[str, Any], listed: bool) -> None:
    config = load(EXAMPLE)
    host = config.hosts[0].model_copy(update=keys)
    view = cape_view(config.model_copy(update={"hosts": (host,)}))
    assert [one["label"] for one in view.hosts] == ["pc1"] * listed

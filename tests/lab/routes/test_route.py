from __future__ import annotations

import pytest

from cuckoo_zfsiscsi.lab.routes.outside import ROUTING
from cuckoo_zfsiscsi.lab.routes.route import Call, Route

HOST = "10.99.0.11"


@pytest.mark.parametrize(
    ("route", "said"),
    [
        ("none", [("drop", HOST, "2042")]),
        ("drop", [("drop", HOST, "2042")]),
        (
            "internet",
            [("forward", "boot0", "internet0", HOST), ("srcroute", "main", HOST)],
        ),
        (
            "inetsim",
            [
                ("inetsim", HOST, "10.96.0.2", "53", "2042", ""),
                ("forward", "boot0", "inetsim0", HOST),
            ],
        ),
    ],
)
def test_what_cape_says(route: Route, said: list[Call]) -> None:
    assert ROUTING.enable(route, HOST) == [(f"{name}_enable", *rest) for name, *rest in said]
    assert ROUTING.disable(route, HOST) == [(f"{name}_disable", *rest) for name, *rest in said]

"""What is told of a run, from what was seen in it."""

from __future__ import annotations

import pytest

from cuckoo_zfsiscsi.service.seen import Seen, Sign, explain

REFUSED = "no connection: Connection refused"


@pytest.mark.parametrize(
    ("seen", "told"),
    [
        (Seen("agent"), []),
        (Seen("agent", Sign(30.0), Sign(30.0)), []),
        (
            Seen("agent", session=Sign(31.4, 1)),
            [
                "its iSCSI session was lost, and its disk with it: "
                "it was seen last 31 s after the start"
            ],
        ),
        (
            Seen("agent", answer=Sign(31.4, 2), why=REFUSED),
            [f"its agent did not answer at the end: it last did 31 s after the start ({REFUSED})"],
        ),
        (Seen("agent", answer=Sign(31.4, 1), why="it took longer than 2 s"), []),
        (
            Seen("RPC service", answer=Sign(0.0, 1), why=REFUSED, refused=True),
            [
                "its RPC service did not answer at the end: it last did 0 s after the start "
                f"({REFUSED})"
            ],
        ),
        (
            Seen("agent", session=Sign(31.4, 1), target_ended="tgtd died of SIGSEGV"),
            [
                "its iSCSI target ended: tgtd died of SIGSEGV",
                "its iSCSI session was lost, and its disk with it: "
                "it was seen last 31 s after the start",
            ],
        ),
        (
            Seen("agent", boots=1),
            ["it was rebooted once: it asked for its boot script again"],
        ),
        (
            Seen("agent", boots=3),
            ["it was rebooted 3 times: it asked for its boot script again"],
        ),
        (Seen("agent", is_off=True), ["its power was off, and the service had not cut it"]),
        (Seen("agent", given_up="no disk"), ["the service gave it up: no disk"]),
    ],
)
def test_explain(seen: Seen, told: list[str]) -> None:
    assert explain(seen) == told


def test_what_is_there_again_was_not_lost() -> None:
    sign = Sign()
    for found, at in ((False, 10.0), (False, 20.0), (True, 30.0)):
        sign.look(found, at)
    assert sign == Sign(30.0, 0)
    sign.look(False, 40.0)
    assert sign == Sign(30.0, 1)

"""The service is killed at every step of a reset and of a start; a restart ends clean."""

from __future__ import annotations

import hashlib
import signal

import pytest

from cuckoo_zfsiscsi.cape.client import ServiceError
from tests.faults.patience import SERVICE
from tests.faults.small_lab import SmallLab
from tests.matrix import matrix

FILE = "cuckoo_zfsiscsi.disk.store.file:FileStore"
TGT = "cuckoo_zfsiscsi.disk.target.tgt:TgtTarget"
POWER = "cuckoo_zfsiscsi.power.proved:ProvedPower"
BOOTS = "cuckoo_zfsiscsi.netboot.boots:Boots"
WORKER = "cuckoo_zfsiscsi.service.worker:Worker"

# The second call of what belongs to a reset: the first is that of the service's own start.
STEPS = [
    (f"{POWER}.off", 2),
    (f"{TGT}.fence", 2),
    (f"{FILE}.swap", 2),
    (f"{FILE}.prove", 2),
    (f"{FILE}.discard_retired", 2),
    (f"{FILE}.make_spare", 2),
    (f"{FILE}.taint", 1),
    (f"{TGT}.export", 1),
    (f"{BOOTS}.arm", 1),
    (f"{POWER}.on", 1),
    (f"{TGT}.sessions", 1),
    (f"{WORKER}._hand_over", 1),
]
GATE = [
    (f"{FILE}.swap", 2, "before"),
    (f"{TGT}.export", 1, "after"),
    (f"{POWER}.on", 1, "after"),
    (f"{WORKER}._hand_over", 1, "before"),
]


@pytest.mark.parametrize(
    ("method", "number", "when"),
    matrix(
        [(*step, when) for step in STEPS for when in ("before", "after")],
        GATE.__contains__,
        lambda cell: f"{cell[2]} {cell[0].partition(':')[2]}",
    ),
)
def test_killed_then_clean(lab: SmallLab, method: str, number: int, when: str) -> None:
    lab.start(die=(method, when, number))
    try:
        lab.wait(lambda: lab.state() == "clean", "the first reset")
        lab.client.start("pc1", SERVICE)
        lab.ask_guest("/infect", "POST")
        lab.client.stop("pc1", SERVICE)
    except ServiceError:
        pass
    lab.wait(lambda: not lab.runs, f"the death {when} {method}")
    assert lab.ended == -signal.SIGKILL, lab.seen()

    lab.restart()
    lab.wait(lambda: lab.state() == "clean", "the way back to clean")
    assert lab.machine.pid is None
    report = lab.client.start("pc1", SERVICE)
    golden = hashlib.sha256(lab.golden[:512]).hexdigest()
    assert lab.ask_guest("/sector")["sha256"] == golden
    assert report["generation"] == lab.client.host("pc1")["generation"]
    lab.ask_guest("/infect", "POST")
    assert lab.ask_guest("/sector")["sha256"] != golden
    lab.client.stop("pc1", SERVICE)
    assert lab.machine.pid is None

"""An attacker that plays at random, beside hosts that go on with clean runs."""

from __future__ import annotations

import secrets
import sys
from pathlib import Path

import pytest

from tests.attacks.moves import plan, primitives
from tests.attacks.session import Session
from tests.faults.farm import Farm
from tests.faults.forked import ForkServer
from tests.faults.patience import SERVICE
from tests.matrix import matrix

SEED = 1
MOVES = {"short": 200, "long": 2000}


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("wire", ["shared", "alone"])
@pytest.mark.parametrize("length", matrix(MOVES, lambda length: length == "short"))
def test_no_move_harms_a_sibling(tmp_path: Path, forks: ForkServer, wire: str, length: str) -> None:
    """A guest plays moves at random, of all kinds, while its siblings go on with runs.

    Before: a few moves ended tgtd, and with it every run; some wrote to a sibling's disk.
    Now: every disk is the golden image's at its run's beginning, and no process dies.
    """
    seed = SEED if length == "short" else secrets.randbelow(1 << 32)
    farm = Farm(tmp_path, 4, forks, SERVICE, alone=wire == "alone")
    try:
        farm.open()
        result = Session(farm, seed).run(MOVES[length])
    finally:
        farm.close()
    sys.stdout.write(f"{result}\n")
    # How late others are is for the bench, on a machine that does nothing else
    assert not (faults := result.faults(timed=False)), "\n".join(
        [str(result), *faults, *result.last]
    )
    assert result.moves == MOVES[length]
    assert result.runs > 0


def test_there_are_many_kinds_of_moves() -> None:
    assert len(primitives()) >= 40
    assert all(one.what.endswith(".") for one in primitives().values())


def test_a_seed_replays() -> None:
    def moves(seed: int) -> list[str]:
        return [str(move) for move, _ in zip(plan(seed), range(50), strict=False)]

    assert moves(7) == moves(7)
    assert moves(7) != moves(8)
    with pytest.raises(ValueError, match="no primitive is called"):
        next(plan(7, only=["nothing"]))

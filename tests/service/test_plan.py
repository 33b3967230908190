"""What a host does next, over every combination of facts."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from cuckoo_zfsiscsi.service.plan import OFF, Facts, Step, next_step
from cuckoo_zfsiscsi.service.report import State

AT_REST = [
    State.UNKNOWN,
    State.DIRTY,
    State.CLEAN,
    State.READY,
    State.RUNNING,
    State.MAINTENANCE,
]
EVERY = [
    Facts(state, *flags) for state, flags in product(AT_REST, product([False, True], repeat=12))
]


@pytest.mark.parametrize(
    ("facts", "step"),
    [
        (Facts(State.UNKNOWN), Step.CUT),
        (Facts(State.DIRTY), Step.RESET),
        (Facts(State.CLEAN), None),
        (Facts(State.CLEAN, run=True), Step.START_UP),
        (Facts(State.CLEAN, prewarm=True), Step.START_UP),
        (Facts(State.CLEAN, run=True, right_image=False), Step.RESET),
        (Facts(State.READY, run=True), Step.HAND_OVER),
        (Facts(State.READY, run=True, right_image=False), Step.CUT),
        (Facts(State.READY, prewarm=True), None),
        (Facts(State.READY, prewarm=True, look_due=True), Step.CHECK_ALIVE),
        (Facts(State.READY, prewarm=True, stale=True), Step.CUT),
        (Facts(State.READY, prewarm=True, stale=True, run=True), Step.HAND_OVER),
        (Facts(State.READY), Step.CUT),
        (Facts(State.RUNNING, run=True), None),
        (Facts(State.RUNNING, run=True, cut_wanted=True), Step.CUT),
        (Facts(State.CLEAN, maintenance=True), Step.RETIRE),
        (Facts(State.READY, maintenance=True), Step.CUT),
        (Facts(State.MAINTENANCE, maintenance=True), None),
        (Facts(State.MAINTENANCE, maintenance=True, draft=True), Step.EDIT),
        (Facts(State.MAINTENANCE, maintenance=True, draft=True, cut_wanted=True), Step.CUT),
        (Facts(State.DIRTY, maintenance=True, draft=True), Step.RETIRE),
        (Facts(State.DIRTY, quarantined=True, may_retry=False), None),
        (Facts(State.CLEAN, quarantined=True), Step.START_UP),
        (Facts(State.READY, quarantined=True), Step.HEAL),
    ],
)
def test_next_step(facts: Facts, step: Step | None) -> None:
    assert next_step(facts) is step


def test_invariants() -> None:
    for facts in EVERY:
        _check_invariants(facts)


def _check_invariants(facts: Facts) -> None:
    step = next_step(facts)
    if facts.cut_wanted:
        assert step is Step.CUT
    if step is Step.START_UP:
        # A disk boots only when it is clean, of the wanted image, and someone wants it.
        assert facts.state is State.CLEAN
        assert facts.right_image
        assert not facts.closing
        assert not facts.maintenance
        assert facts.run or facts.prewarm or facts.quarantined
    if step in (Step.RESET, Step.RETIRE):
        # No disk is touched unless power was proved off.
        assert facts.state in OFF
    if step is Step.HAND_OVER:
        assert facts.state is State.READY
        assert facts.run
        assert not facts.quarantined
    if facts.quarantined and not facts.may_retry and not facts.cut_wanted:
        assert step is None
    if facts.state is State.RUNNING and not (facts.cut_wanted or facts.maintenance):
        assert step is None


def test_from_anywhere_to_ready() -> None:
    """Whatever a crash left: the same table leads to a host that is ready."""
    leads_to = {
        Step.CUT: State.DIRTY,
        Step.RESET: State.CLEAN,
        Step.START_UP: State.READY,
    }
    for state in (State.UNKNOWN, State.DIRTY, State.CLEAN, State.READY):
        facts = Facts(state, run=True)
        for _ in range(4):
            step = next_step(facts)
            if step is Step.HAND_OVER:
                break
            assert step is not None
            facts = replace(facts, state=leads_to[step])
        assert next_step(facts) is Step.HAND_OVER

"""What is done about a host and its row, for everything that can be the case."""

from __future__ import annotations

import pytest

from cuckoo_zfsiscsi.cape.quarantine import Case, Step, next_step
from cuckoo_zfsiscsi.cape.rows import Owner
from tests.cape.service import host

NOW = 100.0
CASES = {
    "none": None,
    "due": Case("no agent", 30.0, NOW, is_late=False, is_ours=True),
    "pauses": Case("no agent", 30.0, NOW + 1, is_late=False, is_ours=True),
    "another's": Case("busy", 30.0, NOW, is_late=False, is_ours=False),
}
HOSTS = {
    "fine": host("pc1"),
    "stopping": host("pc1", state="stopping"),
    "has a run": host("pc1", state="running", run=True),
    "quarantined": host("pc1", state="quarantined"),
    "in maintenance": host("pc1", state="maintenance"),
    "quarantined in a run": host("pc1", state="quarantined", run=True),
}
LOCK, BACK, STOP, REST = Step.LOCK, Step.BRING_BACK, Step.STOP, None
OUT = ("quarantined", "in maintenance", "quarantined in a run")
TABLE: dict[tuple[Owner | None, str], list[Step | None]] = {
    # cases:                     none, due, pauses, another's
    (Owner.NOBODY, "fine"): [REST, BACK, LOCK, BACK],
    (Owner.NOBODY, "stopping"): [REST, REST, LOCK, REST],
    (Owner.NOBODY, "has a run"): [REST, LOCK, LOCK, LOCK],
    **{(Owner.NOBODY, state): [LOCK] * 4 for state in OUT},
    (Owner.US, "fine"): [BACK, BACK, REST, BACK],
    (Owner.US, "stopping"): [REST] * 4,
    (Owner.US, "has a run"): [REST, STOP, STOP, REST],
    **{(Owner.US, state): [REST] * 4 for state in OUT},
    (None, "fine"): [BACK, BACK, REST, BACK],
    (None, "stopping"): [REST] * 4,
    (None, "has a run"): [REST, STOP, STOP, REST],
    **{(None, state): [REST] * 4 for state in OUT},
    **{(Owner.CAPE, state): [REST] * 4 for state in HOSTS},
}


@pytest.mark.parametrize("owner", [*Owner, None])
@pytest.mark.parametrize("state", HOSTS)
def test_next_step(owner: Owner | None, state: str) -> None:
    found = [next_step(HOSTS[state], owner, case, NOW) for case in CASES.values()]
    assert dict(zip(CASES, found, strict=True)) == dict(
        zip(CASES, TABLE[owner, state], strict=True)
    )


def test_what_takes_long_comes_last() -> None:
    assert max(Step) is Step.STOP

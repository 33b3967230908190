from __future__ import annotations

import pytest

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import DeadlineExceededError, PowerError, TransientPowerError
from cuckoo_zfsiscsi.power.limit import errors_by_peer, limiter_for
from cuckoo_zfsiscsi.power.manners import Manners

PEER = "ipmi://test-manners:623"


def test_every_failed_command_counts() -> None:
    """Those too that are made good by asking again."""
    manners = Manners(PEER, limiter_for(PEER), 0.0, hurried=False)
    answers: list[Exception | int] = [TransientPowerError("busy"), 3]

    def command() -> int:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert manners.ask(command, "status", Deadline(5)) == 3
    assert errors_by_peer()[PEER] == 1
    for error in (PowerError("no"), DeadlineExceededError("silent")):
        answers.append(error)
        with pytest.raises(type(error)):
            manners.ask(command, "status", Deadline(5))
    assert errors_by_peer()[PEER] == 3

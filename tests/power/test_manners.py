from __future__ import annotations

from itertools import pairwise

import pytest

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import DeadlineExceededError, PowerError, TransientPowerError
from cuckoo_zfsiscsi.power.breaker import OPENS_AFTER, PAUSES
from cuckoo_zfsiscsi.power.limit import Limiter, errors_by_peer, limiter_for
from cuckoo_zfsiscsi.power.manners import BACK_OFF, Manners
from tests.clocks import VirtualClock

PEER = "ipmi://test-manners:623"


def test_every_failed_command_counts(clock: VirtualClock) -> None:
    """Those too that are made good by asking again."""
    manners = Manners(PEER, limiter_for(PEER), 0.0, hurried=False)
    answers: list[Exception | int] = [TransientPowerError("busy"), 3]

    def command() -> int:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert manners.ask(command, "status", Deadline(5, clock=clock)) == 3
    assert errors_by_peer()[PEER] == 1
    for error in (PowerError("no"), DeadlineExceededError("silent")):
        answers.append(error)
        with pytest.raises(type(error)):
            manners.ask(command, "status", Deadline(5, clock=clock))
    assert errors_by_peer()[PEER] == 3


@pytest.mark.parametrize("error", [RecursionError("deep"), MemoryError(), SystemExit(3), OSError()])
def test_whatever_a_driver_raises_is_a_power_error(
    clock: VirtualClock, error: BaseException
) -> None:
    def command() -> None:
        raise error

    with pytest.raises(
        PowerError, match=f"status: the driver failed: {type(error).__name__}"
    ) as it:
        Manners(PEER, Limiter(), 0.0, hurried=False).ask(
            command, "status", Deadline(5, clock=clock)
        )
    assert not isinstance(it.value, TransientPowerError)


def test_when_a_device_is_asked_that_never_answers(clock: VirtualClock) -> None:
    """More and more seldom, then once after each time of peace."""
    begin, times = clock.monotonic(), list[float]()

    def command() -> None:
        times.append(clock.monotonic() - begin)
        raise TransientPowerError("busy")

    with pytest.raises(PowerError, match=r"busy, asked 10 times in 200\.0 s"):
        Manners(PEER, Limiter(), 0.0, hurried=False).ask(
            command, "status", Deadline(200, clock=clock)
        )
    pauses = [later - earlier for earlier, later in pairwise(times)]
    assert pauses == [*BACK_OFF[: OPENS_AFTER - 1], *PAUSES, PAUSES[-1]]

from __future__ import annotations

import asyncio
import logging

import pytest

from cuckoo_zfsiscsi.service.attempts import FIRST, FORGET, LONGEST, MOST, PERIOD, WAITING, Attempts
from tests.clocks import VirtualClock


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def made(clock: VirtualClock, caplog: pytest.LogCaptureFixture) -> Attempts:
    caplog.set_level(logging.WARNING)
    return Attempts(clock)


def wrong(made: Attempts, address: str = "10.0.0.5") -> float | None:
    pause = made.count(address, "control API")
    if pause is not None:
        made.answered(address)
    return pause


def test_each_takes_longer(made: Attempts, clock: VirtualClock) -> None:
    pauses = [wrong(made) for _ in range(100)]
    assert pauses[:4] == [FIRST, 2 * FIRST, 4 * FIRST, 8 * FIRST]
    assert pauses[-1] == LONGEST
    assert wrong(made, "10.0.0.6") == FIRST, "another address has done nothing"
    clock.sleep(FORGET + 1)
    assert wrong(made) == FIRST


def test_few_answers_wait_at_a_time(made: Attempts) -> None:
    pauses = [made.count("10.0.0.5", "control API") for _ in range(WAITING + 5)]
    assert pauses[WAITING:] == 5 * [None]
    made.answered("10.0.0.5")
    assert made.count("10.0.0.5", "control API") is not None


def test_one_line_a_period(
    made: Attempts, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(50):
        wrong(made)
    assert caplog.messages == ["10.0.0.5 gives a wrong token to the control API"]
    wrong(made, "10.0.0.6")
    clock.sleep(PERIOD)
    wrong(made)
    assert len(caplog.messages) == 3
    assert caplog.messages[2].endswith(": 50 since the last line about it")


def test_few_addresses_are_remembered(made: Attempts) -> None:
    for number in range(3 * MOST):
        wrong(made, str(number))
    assert len(made._addresses) == MOST
    assert wrong(made, str(3 * MOST - 1)) == 2 * FIRST
    assert wrong(made, "0") == FIRST


def test_punish(made: Attempts, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    assert asyncio.run(made.punish("a", "dashboard"))
    assert asyncio.run(made.punish("a", "dashboard"))
    assert slept == [FIRST, 2 * FIRST]
    assert made._addresses["a"].waiting == 0
    for _ in range(WAITING):
        made.count("a", "dashboard")
    assert not asyncio.run(made.punish("a", "dashboard"))

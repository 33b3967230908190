"""Proof, repetition and rate limit, around the real driver of a real BMC."""

from __future__ import annotations

import threading
import time
from itertools import pairwise

import pytest

from cuckoo_zfsiscsi.deadline import Cancel, Deadline
from cuckoo_zfsiscsi.errors import (
    CancelledError,
    DeadlineExceededError,
    PowerError,
    TransientPowerError,
)
from cuckoo_zfsiscsi.power import Can, Power, PowerState
from cuckoo_zfsiscsi.power.limit import Limiter, limiter_for
from cuckoo_zfsiscsi.power.proved import ProvedPower
from tests.power.bmc import Bmc


def power_of(bmc: Bmc, interval: float = 0.0, repeat_after: float = 10.0) -> ProvedPower:
    driver = bmc.driver()
    return ProvedPower(
        driver, limiter_for(driver.peer), interval=interval, repeat_after=repeat_after
    )


def test_on_and_off(bmc: Bmc) -> None:
    power: Power = power_of(bmc)
    power.on(deadline=Deadline(10))
    assert bmc.power == "1"
    assert power.status(deadline=Deadline(10)) is PowerState.ON
    power.off(deadline=Deadline(10))
    assert bmc.power == "0"
    assert power.status(deadline=Deadline(10)) is PowerState.OFF


def test_off_is_asked_for_even_when_it_is_off(bmc: Bmc) -> None:
    power_of(bmc).off(deadline=Deadline(10))
    assert [what for _, what in bmc.commands()] == ["set power 0", "get power"]


def test_says_off_and_stays_on(bmc: Bmc) -> None:
    bmc.power = "1"
    bmc.fault("stays_on")
    begin = time.monotonic()
    with pytest.raises(
        PowerError, match=r"says it switched off but is still on after \d+\.\d s"
    ) as lie:
        power_of(bmc, repeat_after=0.5).off(deadline=Deadline(3))
    assert 2.9 < time.monotonic() - begin < 20
    assert f"ipmi://127.0.0.1:{bmc.port}" in lie.value.what
    assert lie.value.fix
    assert bmc.asked("set power 0") == Can().requests
    assert bmc.asked("get power") > Can().requests


def test_request_without_effect_is_repeated(bmc: Bmc) -> None:
    bmc.power = "1"
    bmc.fault("deaf")
    power_of(bmc, repeat_after=0.5).off(deadline=Deadline(10))
    assert bmc.power == "0"
    assert bmc.asked("set power 0") == 2


def test_bmc_that_comes_back_is_asked_again(bmc: Bmc) -> None:
    bmc.stop()
    timer = threading.Timer(3.0, bmc.start)
    timer.start()
    power_of(bmc).on(deadline=Deadline(30))
    timer.join()
    assert bmc.power == "1"


def test_bmc_that_does_not_come_back(bmc: Bmc) -> None:
    bmc.stop()
    begin = time.monotonic()
    with pytest.raises(PowerError, match=r"does not answer, asked \d times in 6\.\d s") as silent:
        power_of(bmc).off(deadline=Deadline(6))
    assert time.monotonic() - begin < 10
    assert not isinstance(silent.value, TransientPowerError)


def test_state_that_cannot_be_read_is_not_claimed(bmc: Bmc) -> None:
    """The BMC took the request and died: neither on nor off is known."""
    bmc.power = "1"
    power = power_of(bmc, interval=1.0)

    def die() -> None:
        while not bmc.asked("set power 0"):
            time.sleep(0.01)
        time.sleep(0.3)
        bmc.stop()

    thread = threading.Thread(target=die)
    thread.start()
    with pytest.raises((PowerError, DeadlineExceededError)) as unknown:
        power.off(deadline=Deadline(5))
    thread.join()
    assert "still" not in str(unknown.value)


def test_wrong_password_is_tried_once(bmc: Bmc) -> None:
    driver = bmc.driver(password="wrong")
    begin = time.monotonic()
    with pytest.raises(PowerError, match="refuses the user or the password"):
        ProvedPower(driver, Limiter(), interval=5.0).off(deadline=Deadline(20))
    assert time.monotonic() - begin < 5


def test_unknown_answer_is_never_off(bmc: Bmc) -> None:
    bmc.fault("crash")
    with pytest.raises(PowerError, match="Unspecified error"):
        power_of(bmc).off(deadline=Deadline(10))


def test_cancelled_while_watching(bmc: Bmc) -> None:
    bmc.power = "1"
    bmc.fault("stays_on")
    cancel = Cancel()
    at: list[float] = []

    def end() -> None:
        at.append(time.monotonic())
        cancel.set("stop")

    timer = threading.Timer(1.0, end)
    timer.start()
    with pytest.raises(CancelledError):
        power_of(bmc, interval=0.5).off(deadline=Deadline(20, cancel))
    assert time.monotonic() - at[0] < 5
    timer.join()


def test_two_hosts_on_one_bmc_share_its_pace(bmc: Bmc) -> None:
    hosts = [power_of(bmc, interval=0.5), power_of(bmc, interval=0.5)]
    threads = [
        threading.Thread(target=host.on, kwargs={"deadline": Deadline(20)}) for host in hosts
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    times = [at for at, _ in bmc.commands()]
    assert bmc.asked("set power 1") == 2
    assert bmc.asked("get power") == 2
    assert all(later - earlier >= 0.5 for earlier, later in pairwise(times))


def test_dead_bmc_delays_no_other(bmc: Bmc, other_bmc: Bmc) -> None:
    errors: list[BaseException] = []

    def cut() -> None:
        try:
            power_of(bmc).off(deadline=Deadline(8))
        except PowerError as error:
            errors.append(error)

    with bmc.frozen():
        thread = threading.Thread(target=cut)
        thread.start()
        time.sleep(0.3)
        begin = time.monotonic()
        power_of(other_bmc).on(deadline=Deadline(10))
        assert time.monotonic() - begin < 7
        assert thread.is_alive()
        thread.join()
    assert other_bmc.power == "1"
    assert len(errors) == 1


def test_waiter_behind_a_dead_bmc_can_be_cancelled(bmc: Bmc) -> None:
    first, second = power_of(bmc), power_of(bmc)
    cancel = Cancel()

    def hold() -> None:
        with pytest.raises((PowerError, DeadlineExceededError)):
            first.off(deadline=Deadline(6))

    with bmc.frozen():
        thread = threading.Thread(target=hold)
        thread.start()
        time.sleep(0.2)
        threading.Timer(0.3, cancel.set, ("stop",)).start()
        begin = time.monotonic()
        with pytest.raises(CancelledError):
            second.status(deadline=Deadline(20, cancel))
        assert time.monotonic() - begin < 5
        thread.join()


def test_aimed_at_the_network_before_each_power_on(bmc: Bmc) -> None:
    driver = bmc.driver(boot="network")
    power = ProvedPower(driver, limiter_for(driver.peer), interval=0.0)
    power.on(deadline=Deadline(10))
    power.off(deadline=Deadline(10))
    switched = [what for _, what in bmc.commands() if what.startswith("set")]
    assert switched == ["set boot pxe", "set power 1", "set power 0"]

from __future__ import annotations

from itertools import pairwise

import pytest

from cuckoo_zfsiscsi.service import boot_loop
from cuckoo_zfsiscsi.service.boot_loop import FIRST, FORGOTTEN, FREE, MOST, BootLoop


def test_a_few_boots_in_a_row_need_not_wait() -> None:
    loop = BootLoop()
    for number in range(FREE):
        loop = loop.after_boot(100.0 + number)
        assert loop.pause == 0
    assert loop.next_at == loop.at


def test_one_a_minute_never_waits() -> None:
    loop = BootLoop()
    for number in range(1000):
        loop = loop.after_boot(number * FORGOTTEN)
        assert loop.pause == 0


def boot_in_a_loop(until: float) -> list[float]:
    """Return when a host boots that asks all the time."""
    loop, now, boots = BootLoop(), 0.0, []
    while now < until:
        boots.append(now)
        loop = loop.after_boot(now)
        now = max(now + 1.0, loop.next_at)
    return boots


def test_a_loop_waits_ever_longer() -> None:
    """Until its boots are as far apart as are forgotten."""
    boots = boot_in_a_loop(24 * 3600.0)
    pauses = [after - before for before, after in pairwise(boots)]
    assert pauses[: FREE - 1] == (FREE - 1) * [1.0]
    growing = pauses[FREE - 1 : FREE + 5]
    assert growing == sorted(growing)
    assert growing[0] < FIRST
    assert 0.8 * FORGOTTEN < pauses[-1] < 1.2 * FORGOTTEN
    assert len(boots) < 24 * 60 + 2 * FREE
    assert max(pauses) <= MOST


def test_the_pause_has_an_end() -> None:
    assert BootLoop(boots=1000.0, at=7.0).next_at == 7.0 + MOST


@pytest.mark.parametrize("is_told", [True, False])
def test_it_is_told_once_until_all_is_forgotten(is_told: bool) -> None:
    loop = BootLoop(boots=8.0, at=0.0, is_told=is_told)
    assert loop.after_boot(1.0).is_told is is_told
    assert not loop.after_boot(8.0 * FORGOTTEN).is_told


def test_what_counts_is_less_than_a_boot_of_a_working_host() -> None:
    assert boot_loop.FIRST < boot_loop.FORGOTTEN < boot_loop.MOST

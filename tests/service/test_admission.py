"""Whose turn it is to go; what a service does with real connections is in tests/attacks."""

from __future__ import annotations

import random

import pytest

from cuckoo_zfsiscsi.service.admission import IN_ALL, PER_ADDRESS, Admission, Waiting


def arrive(waiting: Waiting, address: str) -> tuple[Admission, Admission | None]:
    one = Admission(waiting)
    one.address = address
    return one, waiting.add(one)


def test_the_oldest_of_an_address_goes() -> None:
    waiting = Waiting(per_address=3, in_all=100)
    made = [arrive(waiting, "a") for _ in range(3)]
    other, _ = arrive(waiting, "b")
    assert not any(gone for _, gone in made)
    _, gone = arrive(waiting, "a")
    assert gone is made[0][0]
    assert gone is not other


def test_who_has_most_makes_room() -> None:
    waiting = Waiting(per_address=10, in_all=6)
    quiet, _ = arrive(waiting, "quiet")
    loud = [arrive(waiting, "loud")[0] for _ in range(5)]
    _, gone = arrive(waiting, "new")
    assert gone is loud[0]
    assert gone is not quiet


@pytest.mark.parametrize("addresses", [1, 3, 50, 5000])
def test_never_too_many_and_never_the_newest(addresses: int) -> None:
    waiting, dice, here = Waiting(20, 60), random.Random(7), set()  # noqa: S311 - dice
    for _ in range(5000):
        one, gone = arrive(waiting, str(dice.randrange(addresses)))
        here.add(one)
        assert gone is not one
        if gone:
            waiting.remove(gone)
            here.remove(gone)
        if dice.random() < 0.2:
            left = dice.choice(sorted(here, key=id))
            waiting.remove(left)
            here.remove(left)
        assert len(waiting) == len(here) <= 60
    for one in here:
        waiting.remove(one)
    assert len(waiting) == 0
    assert not waiting._by_address


def test_all_hosts_of_a_cape_fit() -> None:
    """A request for each of 300 hosts comes at once, all from CAPE's address."""
    waiting = Waiting()
    assert not any(arrive(waiting, "cape")[1] for _ in range(300))
    assert PER_ADDRESS < IN_ALL

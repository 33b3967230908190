from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from cuckoo_zfsiscsi.disk.store import Evidence
from cuckoo_zfsiscsi.disk.store.zfs_retention import DAY, GIB, EvidenceRules, victims

PLENTY = 1 << 60


def one(host: str, generation: int, used: int, since: float = 0.0, kept: float = 0.0) -> Evidence:
    name = f"{host}-g{generation}"
    return Evidence(name, host, generation, "win10@1", kept, used, used, f"tank/{name}", since)


def names(found: list[Evidence]) -> list[str]:
    return [each.name for each in found]


def too_much(found: list[Evidence], *, gib: int = 100, now: float = 0.0, **hosts: int) -> list[str]:
    return names(EvidenceRules(hosts, days=30, gib=gib).too_much(found, now, PLENTY))


def test_a_flood_costs_the_host_that_floods_and_nobody_else() -> None:
    quiet = [one("pc2", 1, GIB), one("pc3", 1, 2 * GIB)]
    flood = [one("pc1", 7, 60 * GIB), one("pc1", 8, 60 * GIB)]
    assert too_much([*quiet, *flood]) == ["pc1-g7"]
    assert too_much([*quiet, one("pc1", 9, 200 * GIB)]) == ["pc1-g9"]


def test_of_hosts_that_flood_alike_each_pays() -> None:
    found = [one(host, n, 30 * GIB) for host in ("pc1", "pc2") for n in (1, 2, 3)]
    assert sorted(too_much(found, gib=120)) == ["pc1-g1", "pc2-g1"]


def test_each_host_keeps_so_many_and_the_newest() -> None:
    found = [one("pc1", n, 1) for n in (9, 10, 11)] + [one("pc2", 1, 1)]
    assert too_much(found, pc1=2, pc2=2) == ["pc1-g9"]
    assert too_much(found, pc1=0, pc2=2) == ["pc1-g9", "pc1-g10", "pc1-g11"]
    assert too_much(found) == []


def test_age_goes_by_what_was_counted_and_not_by_the_time_of_day() -> None:
    future = one("pc1", 1, 1, since=5 * DAY, kept=4e9)
    past = one("pc1", 2, 1, since=6 * DAY, kept=1.0)
    assert too_much([future, past], now=30 * DAY) == []
    assert too_much([future, past], now=35.5 * DAY) == ["pc1-g1"]


def test_what_the_pool_has_no_room_for_is_too_much() -> None:
    rules = EvidenceRules({}, days=30, gib=100)
    found = [one("pc1", 1, 5 * GIB), one("pc1", 2, 5 * GIB), one("pc2", 1, GIB)]
    assert names(rules.too_much(found, 0, 8 * GIB)) == ["pc1-g1"]
    assert len(rules.too_much(found, 0, 0)) == 3


EVIDENCE = st.lists(
    st.tuples(st.sampled_from(["pc1", "pc2", "pc3", "pc4"]), st.integers(0, 40 * GIB)), max_size=12
).map(lambda drawn: [one(host, number, used) for number, (host, used) in enumerate(drawn)])


@given(EVIDENCE, st.integers(1, 100))
def test_a_host_within_its_equal_share_never_loses_any(found: list[Evidence], gib: int) -> None:
    dropped = EvidenceRules({}, days=30, gib=gib).too_much(found, 0, PLENTY)
    takes: dict[str, int] = {}
    for each in found:
        takes[each.host] = takes.get(each.host, 0) + each.used
    assert sum(takes.values()) - sum(each.used for each in dropped) <= gib * GIB
    share = gib * GIB / max(1, len(takes))
    for each in dropped:
        assert takes[each.host] > share


@given(EVIDENCE)
def test_all_of_it_is_given_up_once_and_of_each_host_the_oldest_first(
    found: list[Evidence],
) -> None:
    order = list(victims(found))
    assert sorted(names(order)) == sorted(names(found))
    for _, theirs in itertools.groupby(sorted(order, key=lambda each: each.host), lambda e: e.host):
        generations = [each.generation for each in theirs]
        assert generations == sorted(generations)


@given(EVIDENCE, EVIDENCE, st.integers(1, 100))
def test_more_of_one_host_never_costs_another_one_within_its_share(
    found: list[Evidence], flood: list[Evidence], gib: int
) -> None:
    mine = [each for each in found if each.host == "pc2"]
    if sum(each.used for each in mine) > gib * GIB / 2:
        return
    theirs = [one("pc1", 100 + number, each.used) for number, each in enumerate(flood)]
    rules = EvidenceRules({}, days=30, gib=gib)
    assert not [e for e in rules.too_much([*mine, *theirs], 0, PLENTY) if e.host == "pc2"]

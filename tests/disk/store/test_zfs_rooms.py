from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cuckoo_zfsiscsi.disk.store.zfs_rooms import GIB, Occupied, Wanted, divide

HOSTS = tuple(f"pc{number}" for number in range(1, 11))
BYTES = st.integers(0, 1 << 45)


def test_ten_hosts_share_what_images_evidence_and_pool_free_leave() -> None:
    there = Occupied(total=480 * GIB, free=410 * GIB, largest=64 * GIB)
    division = divide(there, Wanted(HOSTS, pool_free=10, evidence=100 * GIB))
    assert 12 * GIB < division.run <= (410 - 48 - 100) * GIB // 20
    assert division.sure == division.run
    assert division.reserved == 20 * division.run
    assert set(division.quotas.values()) == {division.run}
    assert division.left >= 148 * GIB


def test_in_a_large_pool_a_run_may_write_its_whole_disk_and_nothing_more_is_kept() -> None:
    division = divide(Occupied(9000 * GIB, 8000 * GIB, largest=64 * GIB), Wanted(HOSTS))
    assert division.run == 68 * GIB  # with metadata
    assert division.reserved == 1360 * GIB


def test_what_a_host_has_written_changes_nothing_for_anybody() -> None:
    wanted = Wanted(("pc1", "pc2"))
    calm = Occupied(100 * GIB, 80 * GIB, largest=64 * GIB)
    flood = Occupied(100 * GIB, 60 * GIB, largest=64 * GIB, hosts={"pc1": 20 * GIB})
    assert divide(calm, wanted).quotas["pc2"] == divide(flood, wanted).quotas["pc2"]
    assert divide(calm, wanted).sure == divide(flood, wanted).sure
    assert divide(flood, wanted).is_enough


def test_evidence_leaves_every_run_the_least_and_half_of_the_rest() -> None:
    there = Occupied(100 * GIB, 90 * GIB, largest=64 * GIB)
    half = divide(there, Wanted(("pc1", "pc2"), evidence=1000 * GIB))
    assert half.run >= 9 * GIB
    many = tuple(f"pc{number}" for number in range(36))
    assert divide(there, Wanted(many, evidence=1000 * GIB)).run == GIB


def test_too_many_hosts_for_a_pool_are_not_enough() -> None:
    many = tuple(f"pc{number}" for number in range(60))
    division = divide(Occupied(100 * GIB, 90 * GIB, largest=64 * GIB), Wanted(many))
    assert not division.is_enough
    assert divide(Occupied(100 * GIB, 90 * GIB, largest=GIB // 4), Wanted(many)).is_enough


def test_more_than_there_is_can_be_asked_for_and_is_said() -> None:
    there = Occupied(100 * GIB, 90 * GIB, largest=64 * GIB)
    division = divide(there, Wanted(HOSTS, run=30 * GIB))
    assert division.is_overcommitted
    assert (division.run, set(division.quotas.values())) == (30 * GIB, {30 * GIB})
    assert division.sure < 5 * GIB
    assert division.is_enough


def test_an_image_that_comes_takes_room_from_the_hosts_alike() -> None:
    there = Occupied(100 * GIB, 90 * GIB, largest=64 * GIB)
    before, after = divide(there, Wanted(HOSTS)), divide(there, Wanted(HOSTS), 40 * GIB)
    assert after.run < before.run
    assert after.is_enough
    assert after.left - 40 * GIB >= 10 * GIB


def test_a_disk_to_be_thrown_away_takes_nothing_from_the_next_run() -> None:
    wanted = Wanted(("pc1", "pc2"), run=10 * GIB)
    there = Occupied(
        200 * GIB, 150 * GIB, largest=64 * GIB, hosts={"pc1": 10 * GIB, "pc2": 0},
        quotas={"pc1": 20 * GIB, "pc2": 20 * GIB},
    )  # fmt: skip
    assert divide(there, wanted).quotas == {"pc1": 20 * GIB, "pc2": 10 * GIB}


def test_a_quota_that_is_being_widened_is_not_narrowed_meanwhile() -> None:
    wanted = Wanted(("pc1", "pc2"), run=10 * GIB)
    there = Occupied(
        200 * GIB, 150 * GIB, largest=64 * GIB, hosts={"pc1": 10 * GIB},
        quotas={"pc1": 10 * GIB, "pc2": 10 * GIB},
    )  # fmt: skip
    assert divide(there, wanted).quotas["pc1"] == 10 * GIB
    assert divide(there, wanted, wide=["pc1"]).quotas == {"pc1": 20 * GIB, "pc2": 10 * GIB}


def test_without_hosts_or_images_nothing_is_changed() -> None:
    assert not divide(Occupied(100 * GIB, 90 * GIB, largest=GIB), Wanted()).quotas
    nothing = divide(Occupied(100 * GIB, 90 * GIB), Wanted(HOSTS))
    assert (nothing.quotas, nothing.reserved, nothing.is_enough) == ({}, 0, True)


@given(
    free=BYTES, evidence=BYTES, largest=st.integers(1, 1 << 40), needed=BYTES,
    count=st.integers(1, 300), percent=st.integers(1, 90), budget=BYTES,
    run=st.one_of(st.just(0), st.integers(GIB, 1 << 42)),
    used=st.lists(st.integers(0, 1 << 40), max_size=300),
)  # fmt: skip
def test_no_division_promises_what_is_not_there(
    free: int,
    evidence: int,
    largest: int,
    needed: int,
    count: int,
    percent: int,
    budget: int,
    run: int,
    used: list[int],
) -> None:
    takes = {f"pc{number}": much for number, much in enumerate(used)}
    total = free + evidence + sum(used)
    there = Occupied(total, free, evidence=evidence, largest=largest, hosts=takes)
    hosts = tuple(f"pc{number}" for number in range(count))
    division = divide(there, Wanted(hosts, percent, budget, run), needed)
    assert 0 <= division.sure <= division.run
    assert division.reserved <= free + sum(used)
    assert division.left >= 0
    room = 2 * division.sure
    if all(takes.get(host, 0) <= room for host in hosts) and room:
        # Every host's whole room is reserved, beside what others have left behind
        others = sum(much for host, much in takes.items() if host not in hosts)
        assert division.reserved >= min(others + room * count, free + sum(used))
        assert division.left - needed >= total * percent // 100
    assert division.is_enough or division.sure < min(GIB, largest)
    for host in hosts if division.run else ():
        assert division.quotas[host] >= max(division.sure, takes.get(host, 0))

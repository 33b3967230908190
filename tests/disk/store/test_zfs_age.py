from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cuckoo_zfsiscsi.disk.store.zfs_age import Age, Uptime, uptime

DAY = 86400.0


def test_it_counts_the_time_for_which_one_kernel_runs() -> None:
    age = Age().at(Uptime("a", 7 * DAY))
    assert age.seconds == 0  # what was before nobody counted
    assert age.at(Uptime("a", 9 * DAY)).seconds == 2 * DAY


def test_another_kernel_goes_on_from_what_is_on_record() -> None:
    age = Age(5 * DAY, "a", 9 * DAY)
    after = age.at(Uptime("b", 400 * DAY))  # another server, up for a year
    assert after.seconds == 5 * DAY
    assert after.at(Uptime("b", 401 * DAY)).seconds == 6 * DAY


def test_a_kernel_that_does_not_say_which_it_is_counts_nothing() -> None:
    assert Age().at(Uptime("", 1.0)).at(Uptime("", 1e9)).seconds == 0


def test_what_is_on_record_is_read_again_and_damage_is_nothing() -> None:
    age = Age(5 * DAY, "b0-07", 9 * DAY)
    assert Age.parse(str(age)) == age
    assert Age.parse(str(Age())) == Age()
    for text in ("", "1 2", "x y z", "5 b0 later"):
        assert Age.parse(text) == Age()


def test_this_machine_says_what_is_needed() -> None:
    first, then = uptime(), uptime()
    assert first.boot
    assert first.boot == then.boot
    assert 0 < first.seconds <= then.seconds


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 1e9)), max_size=20))
def test_it_never_goes_back_nor_faster_than_the_kernel(moments: list[tuple[str, float]]) -> None:
    age, most, last = Age(), 0.0, Uptime("", 0.0)
    for boot, seconds in moments:
        now = Uptime(boot, seconds)
        after = age.at(now)
        if boot == last.boot:
            most += max(0.0, seconds - last.seconds)
        assert age.seconds <= after.seconds <= most + 1e-3
        age, last = after, now

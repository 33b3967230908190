"""Many hosts take turns; one that is alone notices nothing."""

from __future__ import annotations

import pytest

from cuckoo_zfsiscsi.deadline import Cancel
from cuckoo_zfsiscsi.errors import CancelledError
from cuckoo_zfsiscsi.service.pace import TICK, Pace
from tests.clocks import VirtualClock


def test_one_host_looks_as_often_as_it_wants(clock: VirtualClock) -> None:
    pace = Pace(rate=1000, clock=clock)
    for _ in range(5):
        assert pace.pause(0.1) == 0.1
        clock.sleep(0.01)


def test_many_hosts_share_the_looks(clock: VirtualClock) -> None:
    pace = Pace(rate=50, clock=clock)
    pauses = [pace.pause(0.1) for _ in range(200)]
    assert pauses == pytest.approx([0.1 + number / 50 for number in range(200)])
    clock.sleep(200 / 50)
    assert pace.pause(0.1) == pytest.approx(0.1), "as if it were alone again"


def test_looks_of_many_come_at_the_rate(clock: VirtualClock) -> None:
    """However many hosts look, and however often each would: nobody is left out."""
    pace, looks = Pace(rate=8, clock=clock), list[tuple[float, int]]()
    begin = clock.monotonic()

    def boot(host: int) -> None:
        while clock.monotonic() < begin + 60:
            clock.sleep(pace.pause(0.5))
            looks.append((clock.monotonic() - begin, host))

    for boots in [clock.call(lambda number=number: boot(number)) for number in range(32)]:  # type: ignore[misc]
        clock.result(boots)
    assert [at for at, _ in looks] == [0.5 + number / 8 for number in range(len(looks))]
    for first in range(0, 8 * 60, 32):
        assert {host for _, host in looks[first : first + 32]} == set(range(32))


def test_so_many_at_once(clock: VirtualClock) -> None:
    pace, cancel, begin = Pace(at_once=2, clock=clock), Cancel(clock), clock.monotonic()
    ends: list[float] = []

    def work() -> None:
        with pace.turn(10.0, cancel):
            clock.sleep(2.0)
            ends.append(clock.monotonic() - begin)

    for works in [clock.call(work) for _ in range(6)]:
        clock.result(works)
    assert ends == [2.0, 2.0, 4.0, 4.0, 6.0, 6.0]


def test_hosts_that_hang_do_not_keep_others_for_ever(clock: VirtualClock) -> None:
    pace, cancel = Pace(at_once=1, clock=clock), Cancel(clock)
    with pace.turn(1.0, cancel):
        begin = clock.monotonic()
        with pace.turn(20.0, cancel):
            assert clock.monotonic() - begin == 20.0
        cancel.set("the service is stopping")
        with pytest.raises(CancelledError, match="stopping"), pace.turn(1.0, cancel):
            pass
    begin = clock.monotonic()
    for _ in range(2):  # the first is over, and so is what it held, and no more
        with pace.turn(60.0, Cancel(clock)):
            assert clock.monotonic() == begin
    with pace.turn(60.0, Cancel(clock)), pace.turn(5.0, Cancel(clock)):
        assert clock.monotonic() - begin == 5.0


def test_calls_come_in_time_and_in_order(clock: VirtualClock) -> None:
    pace, said = Pace(clock=clock), list[tuple[str, float]]()
    for round_ in range(2):  # the thread ends when there is nothing to do, and comes again
        said.clear()
        for name, seconds in (("late", 0.4), ("soon", 0.0), ("now", -1.0)):
            at = clock.monotonic() + seconds
            pace.call(at, lambda n=name, a=at: said.append((n, clock.monotonic() - a)))  # type: ignore[misc]
        clock.until(lambda: not pace._caller, f"the end of round {round_}")
        assert [name for name, _ in said] == ["now", "soon", "late"]
        lateness = dict(said)
        assert lateness["now"] == pytest.approx(1.0 + TICK)
        assert lateness["soon"] == pytest.approx(TICK)
        assert 0.0 <= lateness["late"] <= TICK + 1e-6

from __future__ import annotations

import pytest

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import PowerError
from cuckoo_zfsiscsi.power import PowerState
from cuckoo_zfsiscsi.power.limit import Limiter
from cuckoo_zfsiscsi.power.proved import ProvedPower
from cuckoo_zfsiscsi.power.together import Together
from tests.clocks import VirtualClock
from tests.power.fakes import PDU, RELAY, Outlet

OFF, ON = PowerState.OFF, PowerState.ON


@pytest.mark.parametrize(
    ("one", "two", "both"), [(OFF, OFF, OFF), (ON, OFF, ON), (OFF, ON, ON), (ON, ON, ON)]
)
def test_off_is_off_of_all(
    clock: VirtualClock, one: PowerState, two: PowerState, both: PowerState
) -> None:
    a, b = Outlet(), Outlet()
    a.state, b.state = one, two
    assert Together([a, b], 0.0).query(deadline=Deadline(5, clock=clock)) is both


def test_both_are_asked(clock: VirtualClock) -> None:
    a, b = Outlet(PDU), Outlet(PDU)
    together = Together([a, b], 0.0)
    assert together.peer == f"{a.peer} and {b.peer}"
    assert together.can.tell == {OFF}
    together.request(ON, deadline=Deadline(5, clock=clock))
    assert (a.state, b.state) == (ON, ON)
    assert Together([a, Outlet(RELAY)], 0.0).can.tell == set()


def test_a_second_supply_that_stays_on_is_found_out(clock: VirtualClock) -> None:
    a, b = Outlet(), Outlet()
    a.state = b.state = ON
    b.stuck = True
    way = ProvedPower(Together([a, b], 0.0), Limiter(), interval=0.0)
    with pytest.raises(PowerError, match=r"but is still on after 60\.0 s"):
        way.off(deadline=Deadline(60, clock=clock))
    assert b.asked.count("off") == 3


def test_each_device_keeps_its_pace(clock: VirtualClock) -> None:
    a, b = Outlet(), Outlet()
    begin = clock.monotonic()
    for _ in range(2):
        Together([a, b], 1.0).query(deadline=Deadline(5, clock=clock))
    assert clock.monotonic() - begin == 1.0
    assert a.asked_at == b.asked_at == [begin, begin + 1.0]

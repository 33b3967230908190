from __future__ import annotations

import pytest

from cuckoo_zfsiscsi.deadline import Cancel, Deadline
from cuckoo_zfsiscsi.errors import CancelledError, PowerError
from cuckoo_zfsiscsi.power import PowerState
from cuckoo_zfsiscsi.service.events import Event
from cuckoo_zfsiscsi.service.recorded import RecordedPower
from tests.clocks import VirtualClock
from tests.service.fakes import FakePower, World


class Heard(list[Event]):
    def note(self, event: Event) -> None:
        self.append(event)


def test_switches_and_failures_are_noted(world: World, clock: VirtualClock) -> None:
    heard = Heard()
    power = RecordedPower("pc1", FakePower(world), heard)
    assert power.off(deadline=Deadline(10, clock=clock)).state is PowerState.OFF
    assert power.on(deadline=Deadline(10, clock=clock)).state is PowerState.ON
    assert power.status(deadline=Deadline(10, clock=clock)) is PowerState.ON
    assert [(event.ok, event.what) for event in heard] == [
        (True, "off: it is (fake://)"),
        (True, "on: it is (fake://)"),
    ]
    for name in ("off", "status"):
        world.fail[name] = PowerError("no answer")
        with pytest.raises(PowerError):
            getattr(power, name)(deadline=Deadline(10, clock=clock))
    assert [(event.ok, event.what) for event in heard[2:]] == [
        (False, "off: no answer"),
        (False, "status: no answer"),
    ]
    world.before["off"] = lambda: clock.sleep(3.0)
    with pytest.raises(PowerError):
        power.off(deadline=Deadline(10, clock=clock))
    assert [event.seconds for event in heard] == [0.0, 0.0, 0.0, 0.0, 3.0]
    assert {(event.host, event.kind) for event in heard} == {("pc1", "power")}


def test_a_question_that_is_given_up_is_no_failure(world: World, clock: VirtualClock) -> None:
    heard = Heard()
    cancel = Cancel(clock)
    cancel.set("the run is over")
    with pytest.raises(CancelledError):
        RecordedPower("pc1", FakePower(world), heard).status(deadline=Deadline(10, cancel))
    assert heard == []

"""Twins of the fault table's rows: the same faults of drivers that are played, by a test's clock.

A row shows what a real peer makes of a real driver. Its twin has the driver's part of it by heart
and shows, exactly, what the discipline and the service make of that: when they answer, and that
the other host does not wait.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import PowerError, TransientPowerError
from cuckoo_zfsiscsi.power import Can, Driver, PowerState
from cuckoo_zfsiscsi.power.wol import Wol
from tests.power.fakes import PDU, Outlet
from tests.power.played import Played
from tests.power.stage import Stage

INTERVAL = 1.0
"""Seconds between two commands to one device."""
GIVES_UP = 4.0
"""Seconds after which ipmitool gives up: four tries of one."""

Fault = Callable[[Deadline], None]


class Devices(Stage):
    """The two hosts of one twin, and the devices between them and the service."""

    def bmc(self, *second: Driver) -> Outlet:
        """Put a BMC in front of each host; return that of the first.

        Args:
            second: further ways to switch the first host.
        """
        one, other = (_switching(host, Can()) for host in (self.one, self.other))
        self.one.connect([one, *second], [one, *second], INTERVAL)
        self.other.connect([other], [other], INTERVAL)
        self.count = lambda: len(one.asked)
        return one

    def wake_and_plug(self) -> tuple[Outlet, Outlet]:
        """Give each host a network card that wakes it and a plug; return those of the first."""
        made = []
        for host in (self.one, self.other):
            card, plug = _switching(host, Wol.can), feeding(host)
            host.connect([card], [plug], INTERVAL)
            made.append((card, plug))
        card, plug = made[0]
        self.count = lambda: len(card.asked) + len(plug.asked)
        return card, plug

    def during(self, device: Outlet, fault: Fault) -> None:
        """Let the device have this fault, from its begin to its end."""
        self.begin = lambda: setattr(device, "fault", fault)
        self.end = lambda: setattr(device, "fault", lambda deadline: None)


def _switching(host: Played, can: Can) -> Outlet:
    device = Outlet(can)
    device.effect = lambda state: host.switch(state is PowerState.ON)
    return device


def feeding(host: Played) -> Outlet:
    """Return a plug: the machine has mains, with which it stays off, or none."""
    device = Outlet(PDU)
    device.state = PowerState.ON
    device.effect = lambda state: None if state is PowerState.ON else host.switch(False)
    return device


def _silent(deadline: Deadline) -> None:
    deadline.sleep(GIVES_UP, "an answer")
    raise TransientPowerError("the BMC does not answer")


def timeout(stage: Devices) -> None:
    stage.during(stage.bmc(), _silent)


def wrong_password(stage: Devices) -> None:
    def refuse(_: Deadline) -> None:
        raise PowerError("the BMC refuses the user or the password")

    stage.during(stage.bmc(), refuse)


def refused_session(stage: Devices) -> None:
    """Have no session free for 8 s."""
    bmc, clock = stage.bmc(), stage.clock

    def begin() -> None:
        end = clock.monotonic() + 8.0

        def refuse(_: Deadline) -> None:
            if clock.monotonic() < end:
                raise TransientPowerError("the BMC gives no session")

        bmc.fault = refuse

    stage.begin = begin


def stays_on(stage: Devices) -> None:
    bmc = stage.bmc()
    stage.begin = lambda: setattr(bmc, "stuck", True)
    stage.end = lambda: setattr(bmc, "stuck", False)


def _lie_of_off(stage: Devices, bmc: Outlet) -> None:
    def begin() -> None:
        bmc.stuck, bmc.tells = True, PowerState.OFF

    def end() -> None:
        bmc.stuck, bmc.tells = False, None

    stage.begin, stage.end = begin, end


def lies_of_off(stage: Devices) -> None:
    _lie_of_off(stage, stage.bmc())


def lies_beside_a_plug(stage: Devices) -> None:
    _lie_of_off(stage, stage.bmc(feeding(stage.one)))


def crashes(stage: Devices) -> None:
    """Answer one more request, and then none for 90 s."""
    bmc, clock = stage.bmc(), stage.clock
    ends = [0.0]

    def begin() -> None:
        answered = len(bmc.asked) + 1
        ends[0] = clock.monotonic() + 90.0

        def crash(deadline: Deadline) -> None:
            left = ends[0] - clock.monotonic()
            if len(bmc.asked) > answered and left > 0:
                deadline.sleep(left, "an answer")
                raise TransientPowerError("the BMC does not answer")

        bmc.fault = crash

    stage.begin = begin
    stage.end = lambda: clock.sleep(max(0.0, ends[0] - clock.monotonic()))


def slow(stage: Devices) -> None:
    stage.during(stage.bmc(), lambda deadline: deadline.sleep(25.0, "an answer"))


def rate_limited(stage: Devices) -> None:
    """Refuse a request within 2 s after the one before."""
    bmc = stage.bmc()

    def refuse(_: Deadline) -> None:
        if len(bmc.asked_at) > 1 and bmc.asked_at[-1] - bmc.asked_at[-2] < 2.0:
            raise TransientPowerError("the BMC is busy")

    stage.during(bmc, refuse)


def wrong_certificate(stage: Devices) -> None:
    def distrust(_: Deadline) -> None:
        raise PowerError("the BMC's certificate is not trusted")

    stage.during(stage.bmc(), distrust)


def http_500(stage: Devices) -> None:
    bmc = stage.bmc()
    left = [3]

    def fail(_: Deadline) -> None:
        left[0] -= 1
        if left[0] >= 0:
            raise TransientPowerError("the BMC has a fault of its own (HTTP 500)")

    stage.during(bmc, fail)


def wrong_outlet(stage: Devices) -> None:
    """Let the configured outlet feed another machine."""
    _, plug = stage.wake_and_plug()
    rightly = plug.effect
    stage.begin = lambda: setattr(plug, "effect", lambda state: None)
    stage.end = lambda: setattr(plug, "effect", rightly)


def wake_lost(stage: Devices) -> None:
    """Lose the next three packets."""
    card, _ = stage.wake_and_plug()
    rightly = card.effect

    def begin() -> None:
        lost = card.asked.count("on") + 3
        card.effect = lambda state: rightly(state) if card.asked.count("on") > lost else None

    stage.begin = begin


@dataclass(frozen=True)
class Twin:
    """Of one row of the fault table."""

    make: Callable[[Devices], None]
    seconds: float
    """After which the service answers, to the point."""


TWINS = {
    # Five tries of 4 s with back-offs, 10 s of peace, a try, a back-off: the next peace of 20 s
    # would outlast the deadline.
    "timeout": Twin(timeout, 50.0),
    "wrong password": Twin(wrong_password, 0.0),
    # Asked after 0, 1, 2, 4 and 8 s; looked at a second later.
    "refused session": Twin(refused_session, 9.0),
    "says off, stays on": Twin(stays_on, 60.0),
    "says and tells off, stays on": Twin(lies_of_off, 60.0),
    # Half the time for the BMC; the plug is asked and looked at.
    "the same beside a plug": Twin(lies_beside_a_plug, 31.0),
    # Before a boot it is asked whether it is off.
    "says on, stays off": Twin(stays_on, 61.0),
    "crashes for 90 s": Twin(crashes, 60.0),
    "answers after 25 s": Twin(slow, 51.0),
    # Looked at after 1, 2, 3 and 5 s, of which the last is late enough.
    "rate-limited": Twin(rate_limited, 5.0),
    "certificate wrong": Twin(wrong_certificate, 0.0),
    # Asked after 0, 1, 2 and 4 s; looked at a second later.
    "HTTP 500": Twin(http_500, 5.0),
    "outlet feeds another host": Twin(wrong_outlet, 60.0),
    # The plug is asked twice and switched on within 2 s; a packet is sent then and every 2 s.
    "WoL packet lost": Twin(wake_lost, 8.0),
}
"""By the row's name."""
UNPLAYED = {"drops every third packet"}
"""Rows whose fault is ipmitool's own, which nobody else plays."""

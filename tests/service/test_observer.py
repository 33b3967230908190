"""A run that is watched: what is told of its host when it ends, and what is not."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cuckoo_zfsiscsi.errors import DiskError, PowerError, QuarantinedError, TargetError
from cuckoo_zfsiscsi.power import PowerState
from cuckoo_zfsiscsi.service.boot import ECHO
from cuckoo_zfsiscsi.service.host import Host
from cuckoo_zfsiscsi.service.observer import LAST_LOOK, LAST_PATIENCE, LOOK_EVERY, PATIENCE
from cuckoo_zfsiscsi.service.report import State
from tests.clocks import VirtualClock
from tests.service.conftest import Make
from tests.service.fakes import World
from tests.service.paper_host import Machine
from tests.service.waiting import quiet, wait_for

SILENT = "its agent did not answer at the end: it last did {} s after the start (silent)"
LOST = "its iSCSI session was lost, and its disk with it: it was seen last {} s after the start"
OFF = "its power was off, and the service had not cut it"


@pytest.fixture
def host(make: Make, clock: VirtualClock) -> Host:
    """Make one that has a run."""
    one = make()
    clock.result(one.start("7", None).booted)
    return one


def ended(host: Host, clock: VirtualClock) -> list[str]:
    """Stop it; return what is told of its run."""
    clock.result(host.stop())
    return host.report().seen


def test_of_a_run_that_went_well_nothing_is_told(
    host: Host, world: World, clock: VirtualClock
) -> None:
    looks = world.journal.count("sessions")
    clock.sleep(600.0)
    assert world.journal.count("sessions") - looks == pytest.approx(600.0 / LOOK_EVERY, abs=1)
    begin = clock.monotonic()
    assert ended(host, clock) == []
    assert clock.monotonic() == begin, "the stop came later for it"
    assert "status" not in world.journal, "the power device was asked without need"


def test_a_target_that_ends_in_a_run(host: Host, world: World, clock: VirtualClock) -> None:
    clock.sleep(25.0)
    world.target_ended = "tgtd died of SIGSEGV"
    world.session = None
    told = "its iSCSI target ended: tgtd died of SIGSEGV"
    assert ended(host, clock) == [told, LOST.format(20), SILENT.format(20)]


def test_a_guest_that_shuts_down(host: Host, world: World, clock: VirtualClock) -> None:
    clock.sleep(25.0)
    world.power, world.session = PowerState.OFF, None
    clock.sleep(60.0)
    assert host.report().seen == [], "the run goes on"
    assert ended(host, clock) == [OFF, LOST.format(20), SILENT.format(20)]
    assert world.journal.count("status") == 1


def test_a_host_that_died_right_after_its_start(
    host: Host, world: World, clock: VirtualClock
) -> None:
    clock.sleep(1.0)
    world.power, world.session = PowerState.OFF, None
    assert ended(host, clock) == [OFF, LOST.format(0), SILENT.format(0)]


def test_an_agent_that_was_killed(host: Host, world: World, clock: VirtualClock) -> None:
    clock.sleep(25.0)
    world.answers.discard("agent")
    clock.sleep(60.0)
    assert ended(host, clock) == [SILENT.format(20)]
    assert world.journal.count("status") == 1


def test_a_guest_that_hangs(host: Host, world: World, clock: VirtualClock) -> None:
    clock.sleep(25.0)
    world.busy = 1000.0
    clock.sleep(60.0)
    (told,) = ended(host, clock)
    assert told.startswith("its agent did not answer at the end: it last did 20 s after the start")


@pytest.mark.parametrize("seconds", [PATIENCE - 1.0, PATIENCE + 1.0])
def test_a_guest_that_was_busy(
    host: Host, world: World, clock: VirtualClock, seconds: float
) -> None:
    world.busy = seconds
    clock.sleep(30.0)
    world.busy = 0.0
    clock.sleep(2 * LOOK_EVERY)
    assert ended(host, clock) == []


def test_a_guest_that_is_busy_when_the_run_ends(
    host: Host, world: World, clock: VirtualClock
) -> None:
    """It may be: one look in vain is no finding, if the power device says that it is on."""
    clock.sleep(25.0)
    world.busy = 1000.0
    begin = clock.monotonic()
    assert ended(host, clock) == []
    assert clock.monotonic() - begin == LAST_PATIENCE
    assert world.journal.count("status") == 1


def test_a_silent_host_that_is_off(host: Host, world: World, clock: VirtualClock) -> None:
    """Its session is remembered by the target, and nobody refuses a connection."""
    clock.sleep(25.0)
    world.busy, world.says = 1000.0, PowerState.OFF
    assert ended(host, clock) == [OFF]


@pytest.mark.parametrize("wait", [1.0, 60.0])
def test_a_host_that_is_gone_without_a_word(
    host: Host, world: World, clock: VirtualClock, wait: float
) -> None:
    """It crashed, or lost its network: the target knows of its session, the BMC of its power."""
    clock.sleep(25.0)
    world.busy, world.holds = 1000.0, False
    clock.sleep(wait)
    told = ended(host, clock)
    assert told[0] == LOST.format(20)
    assert len(told) == (2 if wait > LOOK_EVERY else 1), "one look in vain is no silence"


def test_whose_kernel_is_not_known_to_answer(host: Host, world: World, clock: VirtualClock) -> None:
    world.held_error = PermissionError()
    world.answers.discard("agent")
    clock.sleep(60.0)
    assert ended(host, clock) == [SILENT.format(0)]


def test_what_came_back_is_not_told(host: Host, world: World, clock: VirtualClock) -> None:
    session, world.session = world.session, None
    world.says = PowerState.OFF
    clock.sleep(3 * LOOK_EVERY)
    world.session = session
    clock.sleep(3 * LOOK_EVERY)
    assert ended(host, clock) == []


def test_reboots_are_counted(host: Host, world: World, clock: VirtualClock) -> None:
    for pause in (ECHO + 1.0, 30.0, ECHO - 1.0):
        clock.sleep(pause)
        host.note("dhcp", clock.monotonic())
        host.note("script", clock.monotonic())
    assert ended(host, clock) == ["it was rebooted 2 times: it asked for its boot script again"]
    quiet(host, State.CLEAN)
    clock.result(host.start("8", None).booted)
    assert host.report().seen == []
    assert ended(host, clock) == [], "that was another run"


def test_the_boot_of_the_run_itself_is_no_reboot(
    make: Make, world: World, clock: VirtualClock
) -> None:
    host = make()
    world.before["sessions"] = lambda: host.note("script", clock.monotonic())
    clock.result(host.start("7", None).booted)
    world.before.clear()
    assert ended(host, clock) == []


@pytest.mark.parametrize("fails", ["sessions", "status"])
def test_what_can_not_be_told_is_not(
    host: Host, world: World, clock: VirtualClock, fails: str
) -> None:
    world.answers.discard("agent")
    world.fail[fails] = {"sessions": TargetError("dead"), "status": PowerError("dead")}[fails]
    clock.sleep(60.0)
    told = ended(host, clock)
    world.fail.clear()
    assert told == [SILENT.format(0)]
    assert not host.report().reason


def test_a_watch_that_breaks_does_not_touch_the_run(
    host: Host, world: World, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    def break_down() -> None:
        raise RuntimeError("this should not happen")

    world.before["sessions"] = break_down
    clock.sleep(60.0)
    del world.before["sessions"]
    assert host.report().state is State.RUNNING
    assert "pc1 can't be watched" in caplog.text
    assert ended(host, clock) == []


@pytest.mark.parametrize("what", ["sessions", "status"])
def test_a_look_that_hangs_keeps_no_power_on(
    host: Host, world: World, clock: VirtualClock, what: str
) -> None:
    def hang() -> None:
        clock.sleep(1000.0)

    world.before[what] = hang
    world.answers.discard("agent")
    clock.sleep(25.0)
    begin = clock.monotonic()
    clock.result(host.stop())
    assert clock.monotonic() - begin <= LAST_LOOK
    assert world.power is PowerState.OFF


def test_a_stop_that_fails_tells_it_too(host: Host, world: World, clock: VirtualClock) -> None:
    """Mains and BMC may be gone together: then nobody proves power off."""
    world.answers.discard("agent")
    world.stuck_on = True
    clock.sleep(60.0)
    stopping = host.stop()
    with pytest.raises(QuarantinedError):
        clock.result(stopping)
    assert host.report().seen == [SILENT.format(0)]


@pytest.fixture
def machine(world: World, clock: VirtualClock) -> Iterator[Machine]:
    """Make one that is reset at each boot, and has a run."""
    one = Machine(world, clock)
    one.host.open()
    clock.result(one.host.start("7", None).booted)
    yield one
    world.fail.clear()
    one.close()


def test_a_reboot_of_a_host_that_is_reset_at_each_boot(
    machine: Machine, clock: VirtualClock
) -> None:
    clock.sleep(20.0)
    machine.reset_button()
    machine.boot()
    wait_for(machine.host, State.RUNNING)
    clock.result(machine.host.stop())
    told = ["it was rebooted once: it asked for its boot script again"]
    assert machine.host.report().seen == told
    assert machine.record.runs[-1] == f"pc1: {told[0]}"


def test_a_host_that_can_not_be_reset_in_its_run(
    machine: Machine, world: World, clock: VirtualClock
) -> None:
    clock.sleep(20.0)
    world.fail["swap"] = DiskError("the pool is gone")
    machine.reset_button()
    clock.call(machine.boot)
    wait_for(machine.host, State.QUARANTINED)
    clock.until(lambda: machine.host.report().seen, "the reason", machine.host.report)
    assert machine.host.report().seen == ["the service gave it up: the pool is gone"]
    clock.until(lambda: not machine.host.report().step, "all of its end", machine.host.report)
    with pytest.raises(QuarantinedError):
        clock.result(machine.host.stop())

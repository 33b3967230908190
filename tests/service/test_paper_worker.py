"""reset_on = boot over hardware that fails on command: one reset for each boot, and no other."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import (
    BootRefusedError,
    CancelledError,
    DeadlineExceededError,
    HostBusyError,
    ImageError,
    NotReadyError,
    PowerError,
    QuarantinedError,
)
from cuckoo_zfsiscsi.power import PowerState
from cuckoo_zfsiscsi.service.boot import ECHO
from cuckoo_zfsiscsi.service.boot_loop import FORGOTTEN, FREE
from cuckoo_zfsiscsi.service.paper import PaperHost
from cuckoo_zfsiscsi.service.paper_boot import (
    FOLLOW,
    LOGIN,
    REFUSED_LINES,
    RETRY_FIRST,
    Script,
    is_echo,
)
from cuckoo_zfsiscsi.service.report import Run, State
from tests.clocks import VirtualClock
from tests.service.fakes import STUCK, World
from tests.service.paper_host import Machine
from tests.service.waiting import quiet, wait_for
from tests.waiting import HANG

Make = Callable[..., Machine]


@pytest.fixture
def make(world: World, clock: VirtualClock) -> Iterator[Make]:
    """Make a machine with some keys of its section changed; whatever runs is ended afterwards."""
    made: list[Machine] = []

    def make_machine(*, begin: bool = True, **keys: object) -> Machine:
        machine = Machine(world, clock, **keys)
        made.append(machine)
        if begin:
            machine.host.open()
            quiet(machine.host, State.CLEAN)
        return machine

    yield make_machine
    world.stuck_on = False
    world.fail.clear()
    world.before.clear()
    for machine in made:
        machine.close()


@pytest.fixture
def machine(make: Make) -> Machine:
    return make()


def boot(machine: Machine) -> int:
    """Press the power button; return the generation that runs."""
    machine.boot()
    quiet(machine.host, State.READY)
    return machine.host.report().generation or 0


# Requests


def test_each_boot_has_a_disk_and_a_secret_of_its_own(machine: Machine, world: World) -> None:
    seen = set()
    for generation in (1, 2, 3):
        assert boot(machine) == generation
        assert world.export
        seen.add(world.export.credentials.secret)
        machine.reset_button()
    assert len(seen) == 3
    assert machine.record.boots() == [(1, True), (2, True), (3, True)]
    assert world.journal.count("swap") == 3
    assert "off" not in world.journal, "nobody asked for its power"


def test_told_its_default_route(make: Make, world: World, clock: VirtualClock) -> None:
    """Once per boot; again if a request came between, as that went first."""
    machine = make(network_via="agent")
    world.warning = "pc1 was not told"
    asked: list[Script] = []

    def ask() -> None:
        if not asked:
            asked.append(machine.host.ask())

    world.before["tell"] = ask
    boot(machine)
    with pytest.raises(BootRefusedError, match="no new boot"):
        clock.result(asked[0])
    assert world.journal.count("tell") == 2
    assert machine.host.report().warning == "pc1 was not told"
    clock.sleep(60.0)
    assert world.journal.count("tell") == 2
    machine.reset_button()
    world.warning = ""
    boot(machine)
    assert world.journal.count("tell") == 3
    assert machine.host.report().warning == ""


def test_each_boot_is_without_the_flows_of_the_last(machine: Machine, world: World) -> None:
    boot(machine)
    world.journal.clear()
    for _ in range(2):
        machine.reset_button()
        boot(machine)
    resets = [name for name in world.journal if name in ("flows", "swap")]
    assert resets == 2 * ["flows", "swap"]


@pytest.mark.parametrize("begins", ["a boot", "a run"])
def test_flows_of_a_guest_that_an_earlier_service_booted(
    make: Make, world: World, clock: VirtualClock, begins: str
) -> None:
    """The disk that is armed was reset while it lived."""
    machine = make(begin=False)
    world.spontaneous = True
    machine.host.open()
    quiet(machine.host, State.CLEAN)
    world.journal.clear()
    world.flows_warning = "connections may go on"
    if begins == "a boot":
        world.spontaneous = False
        boot(machine)
    else:
        world.before["off"] = lambda: setattr(world, "spontaneous", False)
        report = clock.result(machine.host.start(None, None).booted)
        assert report.warning == "connections may go on"
        off, on = map(world.journal.index, ("off", "on"))
        assert off < world.journal.index("flows") < on
    assert world.journal.count("flows") == 1
    assert machine.host.report().warning == "connections may go on"


def test_retransmitted_and_duplicated(machine: Machine, world: World, clock: VirtualClock) -> None:
    """DHCP, within ECHO; what asks later is another boot, as far as that can be told."""
    scripts = set()
    for pause in (0.0, 0.0, ECHO / 2, ECHO / 4):
        clock.sleep(pause)
        scripts.add(machine.ask(by_dhcp=True))
    assert len(scripts) == 1
    assert world.journal.count("swap") == 1
    clock.sleep(ECHO / 4)
    assert machine.ask(by_dhcp=True) not in scripts
    assert world.journal.count("swap") == 2


def test_no_script_is_given_twice(machine: Machine, world: World, clock: VirtualClock) -> None:
    """HTTP's client repeats nothing: whoever has the host's card and address may be a guest."""
    first = machine.ask()
    second = machine.host.ask()
    clock.sleep(LOGIN / 2)
    assert not second.done()
    assert clock.result(second) != first
    assert world.journal.count("swap") == 2, "and what the first was for is fenced"


def test_an_echo_that_is_looked_at_late(
    machine: Machine, world: World, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is one by when it came, however long the worker has kept it waiting."""
    first = machine.ask()
    wake, waited = machine.host._wake, threading.local()

    class Busy:
        """The worker's lock, which who asks gets after ECHO."""

        def __enter__(self) -> bool:
            if threading.current_thread() is threading.main_thread() and not hasattr(waited, "is"):
                setattr(waited, "is", True)
                clock.sleep(ECHO)
            return wake.__enter__()

        def __exit__(self, *error: Any) -> None:
            wake.__exit__(*error)

        def __getattr__(self, name: str) -> object:
            return getattr(wake, name)

    clock.sleep(ECHO / 2)
    monkeypatch.setattr(machine.host, "_wake", Busy())
    assert machine.ask(by_dhcp=True) == first
    monkeypatch.undo()
    assert world.journal.count("swap") == 1


@pytest.mark.parametrize("has_login", [False, True])
@pytest.mark.parametrize(
    ("arrived", "is_soon"), [(-5.0, True), (0.0, True), (ECHO - 0.01, True), (ECHO, False)]
)
def test_what_an_echo_is(arrived: float, is_soon: bool, has_login: bool) -> None:
    """One that came while the first was waited for, or soon after its answer; no login between."""
    echo = is_echo(1000.0 + arrived, 1000.0, has_login=has_login)
    assert echo is (is_soon and not has_login)


def test_boots_in_a_loop(
    machine: Machine, world: World, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Each waits longer than the one before, and there is one warning; a run does not wait."""
    times = []
    for number in range(FREE + 6):
        assert machine.ask().startswith("#!ipxe")
        times.append(clock.monotonic())
        assert world.journal.count("swap") == number + 1
        clock.sleep(1.0)
    pauses = [after - before for before, after in pairwise(times)]
    assert max(pauses[:FREE]) < LOGIN + 1
    assert pauses[FREE + 1 :] == sorted(pauses[FREE + 1 :])
    assert pauses[-1] > 5 * LOGIN
    warnings = [line for line in caplog.messages if "boots in a loop" in line]
    assert len(warnings) == 1
    assert "boots in a loop" in machine.host.report().warning
    begin = clock.monotonic()
    clock.result(machine.host.start(None, None).booted)
    assert clock.monotonic() - begin < LOGIN
    clock.result(machine.host.stop())
    quiet(machine.host, State.CLEAN)
    begin = clock.monotonic()
    assert machine.ask().startswith("#!ipxe")
    assert clock.monotonic() - begin > LOGIN, "also for a disk that is there already"
    machine.reset_button()
    clock.sleep(2 * FREE * FORGOTTEN)
    assert boot(machine)
    assert machine.host.report().warning == ""


def test_a_working_host_never_waits(machine: Machine, world: World, clock: VirtualClock) -> None:
    for number in range(1, 4 * FREE):
        begin = clock.monotonic()
        assert boot(machine) == number
        assert clock.monotonic() - begin < LOGIN
        clock.sleep(FORGOTTEN)
        machine.reset_button()
    assert world.journal.count("swap") == 4 * FREE - 1


def test_the_log_of_a_guest_that_asks_without_end(
    machine: Machine, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    boot(machine)
    for _ in range(10 * REFUSED_LINES):
        assert "no new boot" in machine.ask()
    lines = [line for line in caplog.messages if "gets no boot script" in line]
    assert len(lines) == REFUSED_LINES


def test_renewed_by_the_guest(machine: Machine, world: World, clock: VirtualClock) -> None:
    """The DHCP of the guest's system, which the server sees as it saw the firmware's."""
    boot(machine)
    for _ in range(20):
        machine.host.note("dhcp", clock.monotonic())
    assert machine.ask() == "it runs, its session goes on: this is no new boot"
    quiet(machine.host, State.READY)
    assert world.journal.count("swap") == 1
    assert machine.record.boots() == [(1, True)]


def test_delayed_into_the_login(machine: Machine, world: World, clock: VirtualClock) -> None:
    asked = machine.host.ask()
    clock.result(asked)
    late = machine.host.ask()
    clock.until(
        lambda: machine.host.report().step.startswith("looking"), "the late one is looked at"
    )
    clock.sleep(LOGIN / 2)
    assert not late.done()
    machine.log_in(asked)
    with pytest.raises(BootRefusedError, match="no new boot"):
        clock.result(late)
    quiet(machine.host, State.READY)
    assert world.journal.count("swap") == 1


def test_of_a_boot_that_never_logged_in(
    machine: Machine, world: World, clock: VirtualClock
) -> None:
    begin = clock.monotonic()
    first = machine.ask()
    second = machine.ask()
    assert clock.monotonic() - begin == pytest.approx(LOGIN, abs=0.2), "it had its time to log in"
    assert first.startswith("#!ipxe")
    assert second.startswith("#!ipxe")
    assert first != second
    assert world.journal.count("swap") == 2
    assert machine.record.boots() == [(1, False)]


@pytest.mark.parametrize("sign", ["session", "rpc", "agent", "unknown"])
def test_forged_while_it_runs(machine: Machine, world: World, sign: str) -> None:
    """Whatever shows that it lives, or that nothing is known, is enough."""
    boot(machine)
    world.answers &= {sign}
    world.holds = sign == "session"
    world.held_error = OSError("no ss") if sign == "unknown" else None
    assert "it runs" in machine.ask()
    assert machine.host.report().state is State.READY
    assert world.journal.count("swap") == 1


def test_of_a_guest_that_an_earlier_service_booted(make: Make, world: World) -> None:
    machine = make(begin=False)
    world.spontaneous = True
    machine.host.open()
    quiet(machine.host, State.CLEAN)
    assert "it runs" in machine.ask()
    world.spontaneous = False
    assert machine.ask().startswith("#!ipxe")
    assert world.journal.count("swap") == 1


def test_a_failed_reset_gives_no_script(make: Make, world: World, clock: VirtualClock) -> None:
    machine = make()
    boot(machine)
    machine.reset_button()
    world.fail["swap"] = ImageError("no image")
    assert machine.ask() == "it is quarantined: no image"
    assert world.export is None
    assert machine.ask() == "it is quarantined: no image"
    failed = clock.monotonic()
    world.fail.clear()
    quiet(machine.host, State.CLEAN)
    assert clock.monotonic() - failed == RETRY_FIRST
    assert [one.kind for one in machine.record.events if one.kind != "reset"][-1] == "healed"
    machine.boot()
    wait_for(machine.host, State.READY)


# Runs


def test_a_run_is_a_power_cycle_and_one_reset(
    machine: Machine, world: World, clock: VirtualClock
) -> None:
    for generation in (1, 2, 3):
        world.journal.clear()
        run = machine.host.start("task 7", None)
        report = clock.result(run.booted)
        assert (report.generation, report.ready) == (generation, True)
        assert {"power", "script", "login", "rpc", "agent"} <= set(report.stages)
        assert report.recovery_s is not None
        shown = machine.host.report()
        assert (shown.state, shown.run, shown.task) == (State.RUNNING, True, "task 7")
        order = [act for act in world.journal if act in ("off", "swap", "on")]
        assert order == ["off", "on"], "the disk was reset after the last stop"
        clock.result(machine.host.stop())
        assert world.power is PowerState.OFF
        quiet(machine.host, State.CLEAN)
        assert not machine.host.report().run
        assert world.journal.count("swap") == 1
        assert machine.record.runs[-2:] == [f"task 7 has generation {generation}", "pc1 is free"]
    assert machine.record.boots() == [(1, True), (2, True), (3, True)]


def test_a_run_that_begins_while_its_disk_is_made(
    machine: Machine, world: World, clock: VirtualClock
) -> None:
    """Right after a stop: that reset is the run's, and no disk is wasted."""
    clock.result(machine.host.start(None, None).booted)
    runs: list[Run] = []

    def begin() -> None:
        if not runs:
            runs.append(machine.host.start(None, None))

    world.before["prove"] = begin
    clock.result(machine.host.stop())
    clock.until(lambda: bool(runs), "the run", machine.host.report)
    assert clock.result(runs[0].booted).generation == 2
    assert world.journal.count("swap") == 2


def test_a_run_on_a_host_that_someone_uses(
    machine: Machine, world: World, clock: VirtualClock
) -> None:
    boot(machine)
    report = clock.result(machine.host.start(None, None).booted)
    assert report.generation == 2
    assert [act for act in world.journal if act in ("off", "swap", "on")] == [
        "swap", "off", "swap", "on",
    ]  # fmt: skip


def test_a_run_asks_for_another_image(machine: Machine, world: World, clock: VirtualClock) -> None:
    world.images.add("win11@2")
    assert clock.result(machine.host.start(None, "win11").booted).image == "win11@2"
    clock.result(machine.host.stop())
    quiet(machine.host, State.CLEAN)
    world.images.add("win10@2")
    assert clock.result(machine.host.start(None, None).booted).image == "win10@2", (
        "sealed meanwhile"
    )
    with pytest.raises(HostBusyError, match="has a run already"):
        machine.host.start(None, None)
    clock.result(machine.host.stop())
    with pytest.raises(ImageError):
        machine.host.start(None, "win12")


def test_a_reboot_within_a_run_is_reset_too(
    machine: Machine, world: World, clock: VirtualClock
) -> None:
    clock.result(machine.host.start(None, None).booted)
    assert "no new boot" in machine.ask(), "a forged request within a run"
    machine.reset_button()
    machine.boot()
    wait_for(machine.host, State.RUNNING)
    clock.until(
        lambda: machine.host.report().generation == 2, "the other disk", machine.host.report
    )
    assert machine.host.report().run
    clock.result(machine.host.stop())
    assert world.power is PowerState.OFF


def test_nobody_switches_a_host_without_a_power_device(make: Make, clock: VirtualClock) -> None:
    machine = make(power=(), power_on=None, power_off=None)
    with pytest.raises(HostBusyError, match="no power device") as refused:
        machine.host.start(None, None)
    assert "set power in [pc1]" in str(refused.value)
    assert clock.result(machine.host.stop()) is None
    assert boot(machine) == 1


def test_no_other_switches_it_within_a_run(machine: Machine, clock: VirtualClock) -> None:
    clock.result(machine.host.start(None, None).booted)
    with pytest.raises(HostBusyError, match="has a run"):
        machine.host.switch(PowerState.OFF, Deadline(HANG, clock=clock))
    clock.result(machine.host.stop())
    quiet(machine.host, State.CLEAN)
    machine.host.switch(PowerState.ON, Deadline(HANG, clock=clock))
    wait_for(machine.host, State.READY)


def test_a_run_whose_host_never_asks(make: Make, world: World, clock: VirtualClock) -> None:
    machine = make()
    machine.silent = True
    run, begin = machine.host.start(None, None), clock.monotonic()
    with pytest.raises(NotReadyError, match="no dhcp"):
        clock.result(run.booted)
    assert clock.monotonic() - begin == machine.config.boot_timeout
    clock.until(lambda: world.power is PowerState.OFF, "off", machine.host.report)
    quiet(machine.host, State.CLEAN)  # healed
    assert clock.monotonic() - begin == machine.config.boot_timeout + RETRY_FIRST
    assert machine.record.boots() == [(1, False)]
    assert machine.host.report().generation == 2


def test_a_run_whose_guest_does_not_come_up(make: Make, world: World, clock: VirtualClock) -> None:
    machine = make()
    world.answers.clear()
    run, begin = machine.host.start(None, None), clock.monotonic()
    with pytest.raises(NotReadyError, match="no rpc"):
        clock.result(run.booted)
    assert clock.monotonic() - begin == pytest.approx(machine.config.boot_timeout, abs=FOLLOW)
    clock.until(lambda: world.power is PowerState.OFF, "off", machine.host.report)


def test_power_on_fails(make: Make, world: World, clock: VirtualClock) -> None:
    machine = make()
    world.fail["on"] = PowerError("the BMC is dead")
    with pytest.raises(PowerError, match="dead"):
        clock.result(machine.host.start(None, None).booted)
    world.fail.clear()
    quiet(machine.host, State.CLEAN)
    assert clock.result(machine.host.start(None, None).booted).ready


@pytest.mark.parametrize("how", ["stop", "abandon"])
def test_a_start_is_given_up(machine: Machine, world: World, how: str, clock: VirtualClock) -> None:
    machine.silent = True
    run = machine.host.start(None, None)
    clock.until(lambda: "on" in world.journal, "switched on")
    if how == "stop":
        clock.result(machine.host.stop())
        with pytest.raises(CancelledError):
            clock.result(run.booted)
    else:
        machine.host.abandon(run, DeadlineExceededError("too long"))
        with pytest.raises(DeadlineExceededError):
            clock.result(run.booted)
        clock.until(lambda: world.power is PowerState.OFF, "off", machine.host.report)
    quiet(machine.host, State.CLEAN)
    machine.silent = False
    assert clock.result(machine.host.start(None, None).booted).ready


def test_asked_while_power_is_cut(machine: Machine, world: World, clock: VirtualClock) -> None:
    """What asks before power is proved off can be no boot of a run."""
    boot(machine)
    asked = []
    world.before["off"] = lambda: asked.append(machine.host.ask())
    clock.result(machine.host.stop())
    with pytest.raises(BootRefusedError, match="its power was cut"):
        clock.result(asked[0])
    quiet(machine.host, State.CLEAN)


def test_power_is_not_proved_off(machine: Machine, world: World, clock: VirtualClock) -> None:
    clock.result(machine.host.start(None, None).booted)
    world.stuck_on = True
    with pytest.raises(QuarantinedError):
        clock.result(machine.host.stop())
    wait_for(machine.host, State.QUARANTINED)
    offs = world.journal.count("off")
    clock.sleep(7 * RETRY_FIRST + 3 * STUCK + 0.1)  # three attempts: after 5, 10 and 20 s
    assert world.journal.count("off") == offs + 3
    assert machine.host.report().state is State.QUARANTINED, "healed without a proof"
    assert "quarantined" in machine.ask()
    with pytest.raises(QuarantinedError):
        machine.host.start(None, None)
    world.stuck_on = False
    machine.host.reset()
    quiet(machine.host, State.CLEAN)
    assert world.power is PowerState.OFF


def test_a_stop_that_comes_late(machine: Machine, world: World, clock: VirtualClock) -> None:
    clock.result(machine.host.start(None, None).booted)
    held = threading.Event()
    world.stuck_on = True
    world.before["off"] = lambda: held.wait(HANG)
    stopping = machine.host.stop()
    clock.until(
        lambda: machine.host.report().state is State.STOPPING, "the cut", machine.host.report
    )
    machine.host.overdue(stopping, 1.0)
    with pytest.raises(QuarantinedError):
        clock.result(stopping)
    held.set()
    world.stuck_on = False
    quiet(machine.host, State.CLEAN)
    assert world.power is PowerState.OFF


def test_the_service_ends_in_a_run(machine: Machine, world: World, clock: VirtualClock) -> None:
    run = machine.host.start(None, None)
    clock.result(run.booted)
    machine.host.close()
    assert machine.host.join(Deadline(HANG, clock=clock))
    assert world.power is PowerState.OFF
    assert machine.record.runs[-2:] == [
        "pc1 is free",
        "pc1: the service gave it up: the service is stopping",
    ]
    asked = machine.host.ask()
    with pytest.raises(BootRefusedError, match="the service stops"):
        clock.result(asked)


def test_the_service_ends_and_power_is_not_proved_off(
    machine: Machine, world: World, clock: VirtualClock
) -> None:
    clock.result(machine.host.start(None, None).booted)
    world.stuck_on = True
    machine.host.close()
    assert not machine.host.join(Deadline(HANG, clock=clock))
    assert dead(machine.host), "it tries once, and does not wait for better times"
    machine.host = machine.make_host()  # is ended in its place
    machine.host.open()


def test_the_service_ends_within_a_cut_that_fails(
    machine: Machine, world: World, clock: VirtualClock
) -> None:
    clock.result(machine.host.start(None, None).booted)
    held = threading.Event()
    world.before["off"] = lambda: held.wait(HANG)
    world.fail["off"] = PowerError("the BMC is busy")
    stopping = machine.host.stop()
    clock.until(lambda: world.journal.count("off") == 2, "the cut")
    machine.host.close()
    world.before["off"] = world.fail.clear
    held.set()
    with pytest.raises(QuarantinedError):
        clock.result(stopping)
    assert machine.host.join(Deadline(HANG, clock=clock)), "the second cut"
    assert world.power is PowerState.OFF


def test_the_service_ends_without_a_run(
    machine: Machine, world: World, clock: VirtualClock
) -> None:
    boot(machine)
    machine.host.close()
    assert machine.host.join(Deadline(HANG, clock=clock))
    assert world.power is PowerState.ON


# Crashes

STEPS = ["off", "disarm", "fence", "swap", "prove", "taint", "export", "on", "sessions", "release"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("step", STEPS)
def test_the_service_is_killed_in_a_run(
    make: Make, world: World, step: str, clock: VirtualClock
) -> None:
    """At any step; the next service ends clean, and whatever booted before has lost its disk."""
    machine = make()
    clock.result(machine.host.start(None, None).booted)
    clock.result(machine.host.stop())
    quiet(machine.host, State.CLEAN)

    def die() -> None:
        raise SystemExit  # ends the worker's thread, and nothing is tidied up

    power_on = world.before["on"]
    world.before[step] = die
    machine.host.start(None, None)
    clock.until(lambda: step in world.journal, step)
    if step in ("fence", "swap", "prove", "taint", "export", "release"):
        clock.until(
            lambda: machine.host.report().state is State.RUNNING or dead(machine.host), "the run"
        )
        machine.host.stop()
    machine.host._worker.join()
    assert dead(machine.host)
    world.before[step] = power_on
    if step != "on":
        del world.before[step]
    armed = set(world.tainted)

    machine.host = machine.make_host()
    machine.host.open()
    quiet(machine.host, State.CLEAN)
    assert machine.host.report().generation not in armed
    assert clock.result(machine.host.start(None, None).booted).generation not in armed
    clock.result(machine.host.stop())
    assert world.power is PowerState.OFF


def dead(host: PaperHost) -> bool:
    return not host._worker.is_alive()

"""Someone else uses a host's name: its boot is void, and it is never ready for it.

World.ask() is a request under the host's own card and address, whoever it is that asks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest

from cuckoo_zfsiscsi.errors import (
    BootRefusedError,
    CancelledError,
    NotReadyError,
    QuarantinedError,
    VoidBootError,
)
from cuckoo_zfsiscsi.power import PowerState
from cuckoo_zfsiscsi.service.observer import LOOK_EVERY
from cuckoo_zfsiscsi.service.reboots import AGAIN, QUIET
from cuckoo_zfsiscsi.service.report import State
from cuckoo_zfsiscsi.service.steps import SILENCE
from cuckoo_zfsiscsi.service.worker import ALIVE_EVERY, RETRY_FIRST, VOID_PAUSE, VOIDS
from tests.clocks import VirtualClock
from tests.service.conftest import Make
from tests.service.fakes import World
from tests.service.waiting import quiet, wait_for

TWICE = "its boot script was asked for a second time"


def once(act: Callable[[], object]) -> Callable[[], object]:
    """Return what does it the first time only."""
    acts = [act]
    return lambda: acts.pop()() if acts else None


def booting(world: World, make: Make, clock: VirtualClock) -> tuple:  # type: ignore[type-arg]
    """Return a host, and a run that it boots for: its system is up, its agent is not yet."""
    world.answers.discard("agent")
    host = make()
    run = host.start(None, None)
    clock.until(lambda: world.is_up, "up", host.report)
    clock.sleep(5.0)
    return host, run


def test_someone_asks_before_it(make: Make, world: World, clock: VirtualClock) -> None:
    """Whoever got the script may have written to the disk by the time that the host asks."""
    world.others = "pc7"
    host, got = make(), list[str]()
    quiet(host, State.CLEAN)
    world.before["on"] = once(lambda: got.append(world.ask()))
    begin, run = clock.monotonic(), host.start(None, None)
    world.journal.clear()
    report = clock.result(run.booted)
    assert "set password" in got[0]
    assert report.generation == 2, "the disk that someone may have written to"
    assert clock.monotonic() - begin >= VOID_PAUSE
    acts = [act for act in world.journal if act in ("on", "fence", "off", "swap")]
    assert acts == ["on", "fence", "off", "fence", "swap", "on"]
    assert host.report().reason == ""


@pytest.mark.parametrize("after", [0.0, 60.0])
def test_someone_asks_after_it(make: Make, world: World, clock: VirtualClock, after: float) -> None:
    """It gets nothing, and the disk is fenced at once."""
    host, run = booting(world, make, clock)
    clock.sleep(after)
    asked, fenced = clock.monotonic(), list[float]()
    world.before["fence"] = lambda: fenced.append(clock.monotonic())
    assert world.ask() == ""
    world.answers.add("agent")
    assert clock.result(run.booted).generation == 2
    assert fenced[0] == asked
    assert world.ask() == "", "what ran before is no reason to have it now"
    clock.result(host.stop())


def test_a_boot_that_is_void_is_on_record(make: Make, world: World, clock: VirtualClock) -> None:
    host, _ = booting(world, make, clock)
    world.ask()
    clock.until(lambda: host.report().state is not State.BOOTING, "void", host.report)
    last = host.report().last_boot
    assert last
    assert (last.ready, last.stalled) == (False, f"void: {TWICE}")


def test_again_and_again(make: Make, world: World, clock: VirtualClock) -> None:
    """Until it is left in peace. Its reason names who was on then, not who is when it is read."""
    world.others = "pc7, pc8"
    world.before["on"] = world.ask
    host = make()
    quiet(host, State.CLEAN)
    ons, begin = world.journal.count("on"), clock.monotonic()
    run = host.start(None, None)
    world.before["make safe"] = lambda: setattr(world, "others", "")
    with pytest.raises(VoidBootError, match=f"{TWICE}; on in its network were pc7, pc8") as caught:
        clock.result(run.booted)
    assert "docs/netboot.rst" in caught.value.fix
    assert clock.monotonic() - begin >= VOID_PAUSE + 2 * VOID_PAUSE
    assert world.journal.count("on") - ons == VOIDS
    acts = [act for act in world.journal if act in ("on", "fence", "off")]
    assert all(after == "fence" for act, after in pairwise(acts) if act == "on"), "at once"
    quiet(host, State.QUARANTINED)
    assert f"({VOIDS} times in a row)" in host.report().reason
    assert (world.power, world.script, world.export) == (PowerState.OFF, None, None)
    with pytest.raises(QuarantinedError, match="pc7"):
        host.start(None, None)
    # It goes on
    clock.sleep(RETRY_FIRST + 1.0)
    quiet(host, State.QUARANTINED)
    # It ends
    world.before.clear()
    quiet(host, State.CLEAN)
    world.before["on"] = once(world.ask)
    assert clock.result(host.start(None, None).booted), "once again is no third time"


def test_prewarmed_all_the_same(make: Make, world: World, clock: VirtualClock) -> None:
    world.before["on"] = once(world.ask)
    host = make(prewarm=True)
    wait_for(host, State.READY)
    assert host.report().generation == 2


def test_stopped_in_the_pause(make: Make, world: World, clock: VirtualClock) -> None:
    world.before["on"] = world.ask
    host = make()
    run = host.start(None, None)
    clock.until(lambda: world.journal.count("on") == 1, "void", host.report)
    quiet(host, State.CLEAN)
    clock.result(host.stop())
    with pytest.raises(CancelledError):
        clock.result(run.booted)
    quiet(host, State.CLEAN)
    assert world.power is PowerState.OFF
    clock.sleep(10 * VOID_PAUSE)
    assert world.journal.count("on") == 1


def test_an_image_that_reboots_before_it_is_ready(
    make: Make, world: World, clock: VirtualClock
) -> None:
    """As often as the host's section says, and no more."""
    world.before["on"] = world.ask
    report = clock.result(make(boot_reboots=1).start(None, None).booted)
    assert report.generation == 1
    world.before["on"] = once(lambda: (world.ask(), world.ask()))
    assert clock.result(make(boot_reboots=1).start(None, None).booted).generation == 3


def test_asked_before_any_firmware_could(make: Make, world: World, clock: VirtualClock) -> None:
    """The machine of this test does."""
    host = make(post_time=1.0)
    with pytest.raises(VoidBootError, match=r"0\.00 s after power-on, and its .* 1\.00 s"):
        clock.result(host.start(None, None).booted)
    assert world.session is None, "it got a script"


def test_a_login_from_elsewhere(make: Make, world: World, clock: VirtualClock) -> None:
    world.address = "10.99.0.12"
    with pytest.raises(VoidBootError, match=r"logged in to its disk from 10\.99\.0\.12"):
        clock.result(make().start(None, None).booted)


def test_a_session_too_many(make: Make, world: World, clock: VirtualClock) -> None:
    """Whoever has the secret, and though it is seen at one look alone."""
    host, run = booting(world, make, clock)
    own = world.session
    assert own
    world.session = replace(own, number=99)
    clock.sleep(1.0)
    world.session = own
    world.answers.add("agent")
    assert clock.result(run.booted).generation == 2
    assert host.report().state is State.RUNNING


def test_a_session_that_nobody_holds(make: Make, world: World, clock: VirtualClock) -> None:
    """The firmware's is remembered; what answers was booted from another disk."""
    world.holds = False
    with pytest.raises(NotReadyError, match="no system holds a session of its disk"):
        clock.result(make().start(None, None).booted)


@pytest.mark.parametrize("error", [OSError("no ss"), PermissionError()])
def test_whose_kernel_can_not_be_asked(
    make: Make, world: World, clock: VirtualClock, error: OSError
) -> None:
    world.held_error = error
    with pytest.raises(Exception, match="the kernel can't be asked for the session of pc1"):
        clock.result(make().start(None, None).booted)


# While it is off


def test_someone_asks_while_it_is_off(
    make: Make, world: World, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """It would get the script of the boot that begins: so that waits until there is silence."""
    world.others = "pc7"
    host = make()
    quiet(host, State.CLEAN)
    for _ in range(5):
        host.note("unarmed", clock.monotonic())
        clock.sleep(0.5)
    line = "someone asks for the boot script of pc1, which is off; on in its network: pc7"
    assert caplog.messages.count(line) == 1
    begin = clock.monotonic()
    assert clock.result(host.start(None, None).booted).generation == 1, "its disk is as it was"
    assert clock.monotonic() - begin >= SILENCE - 0.5
    assert world.journal.count("on") == 1


def test_someone_asks_all_the_time_while_it_is_off(
    make: Make, world: World, clock: VirtualClock
) -> None:
    world.others = "pc7"
    host = make()
    quiet(host, State.CLEAN)
    polls = [True]

    def poll() -> None:
        while polls:
            host.note("unarmed", clock.monotonic())
            clock.sleep(0.5)

    clock.thread(poll, "poller").start()
    clock.sleep(1.0)
    run = host.start(None, None)
    try:
        with pytest.raises(VoidBootError, match=r"pc1 is off, .* else uses its name; on in .*pc7"):
            clock.result(run.booted)
    finally:
        polls.clear()
    assert "on" not in world.journal
    assert host.report().state is State.QUARANTINED
    quiet(host, State.CLEAN)


def test_a_host_that_was_switched_on_by_hand(make: Make, world: World, clock: VirtualClock) -> None:
    """It asks too, and is on: nobody is accused of that, and it is booted as it should be."""
    host = make()
    quiet(host, State.CLEAN)
    world.power = PowerState.ON
    host.note("unarmed", clock.monotonic())
    assert clock.result(host.start(None, None).booted).generation == 2
    assert world.journal.count("on") == 1


# While it is up


def test_someone_asks_in_its_run(make: Make, world: World, clock: VirtualClock) -> None:
    world.others = "pc7"
    host = make()
    clock.result(host.start(None, None).booted)
    for _ in range(3):
        asked = world.script() if callable(world.script) else None
        assert not isinstance(asked, str)
        assert asked
        with pytest.raises(Exception, match="its session goes on: someone else asks in its name"):
            clock.result(asked)
        clock.sleep(5.0)
    assert host.report().state is State.RUNNING
    clock.result(host.stop())
    assert host.report().seen == [
        "someone else asked for its boot script in its name, and got none (on in its network: pc7)"
    ]


def test_someone_logs_in_in_its_run(make: Make, world: World, clock: VirtualClock) -> None:
    """With a secret that the host's own malware has given away."""
    host = make()
    clock.result(host.start(None, None).booted)
    world.firmware = replace(world.session, number=99) if world.session else None
    clock.sleep(2 * LOOK_EVERY)
    clock.result(host.stop())
    (told,) = host.report().seen
    assert "a login to its disk that no boot explains" in told


def test_its_kernel_can_not_be_asked_in_its_run(
    make: Make, world: World, clock: VirtualClock
) -> None:
    clock.result(make().start(None, None).booted)
    world.held_error = OSError("no ss")
    asked = world.script() if callable(world.script) else None
    assert asked
    assert not isinstance(asked, str)
    with pytest.raises(Exception, match="as far as is known"):
        clock.result(asked)


def test_it_is_rebooted_in_its_run(make: Make, world: World, clock: VirtualClock) -> None:
    """By whomever: it gets the script of the same disk, as often as it is rebooted."""
    host = make()
    clock.result(host.start(None, None).booted)
    secret = world.export.credentials.secret if world.export else ""
    for _ in range(3):
        clock.sleep(10.0)
        own, world.session, world.firmware = world.session, None, None
        asked = world.script() if callable(world.script) else None
        assert asked
        assert not isinstance(asked, str)
        begin = clock.monotonic()
        assert secret in clock.result(asked)
        assert clock.monotonic() - begin >= QUIET, "whoever ended its session may be someone else"
        world.session = own
    assert world.journal.count("swap") == 1
    assert host.report().state is State.RUNNING
    clock.result(host.stop())
    assert not any("someone else" in what for what in host.report().seen)


@pytest.mark.parametrize("sign", ["rpc", "session"])
def test_someone_ends_its_session_in_its_run(
    make: Make, world: World, clock: VirtualClock, sign: str
) -> None:
    """A sibling's session is ended in its run, by a forged segment, and its script asked for.

    Before: whoever did that got it at once, and could write to the disk of a run.
    Now: the host's system answers, or logs in anew, before anyone gets the script.
    """
    host = make()
    clock.result(host.start(None, None).booted)
    own, world.session, world.firmware = world.session, None, None
    asked = world.script() if callable(world.script) else None
    assert asked
    assert not isinstance(asked, str)
    clock.sleep((QUIET - AGAIN) / 2)  # between two looks
    assert not asked.done()
    if sign == "rpc":
        world.spontaneous, world.holds = True, False
    else:
        world.session = own
    with pytest.raises(BootRefusedError, match=f"its {sign}"):
        clock.result(asked)
    world.session, world.spontaneous, world.holds = own, False, True
    clock.result(host.stop())
    assert any("someone else asked" in what for what in host.report().seen)


def test_someone_asks_while_it_stands_by(make: Make, world: World, clock: VirtualClock) -> None:
    """It gets nothing, and costs nothing."""
    host = make(prewarm=True)
    wait_for(host, State.READY)
    assert world.ask() == ""
    clock.sleep(2 * ALIVE_EVERY)
    assert clock.result(host.start(None, None).booted).generation == 1


def test_it_is_rebooted_while_it_stands_by(make: Make, world: World, clock: VirtualClock) -> None:
    """Its disk is not clean any more, and a run gets another, however soon it begins."""
    host = make(prewarm=True)
    wait_for(host, State.READY)
    own, world.session, world.firmware = world.session, None, None
    asked = world.script() if callable(world.script) else None
    assert asked
    assert not isinstance(asked, str)
    with pytest.raises(Exception, match="booted anew"):
        clock.result(asked)
    world.session = own
    assert clock.result(host.start(None, None).booted).generation == 2

"""One host and its worker, over hardware that fails on command."""

from __future__ import annotations

import threading
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import (
    CancelledError,
    DeadlineExceededError,
    HostBusyError,
    ImageError,
    NotOffError,
    NotReadyError,
    PowerError,
    QuarantinedError,
    TargetError,
    UnprovenDiskError,
)
from cuckoo_zfsiscsi.netboot.medium import Medium
from cuckoo_zfsiscsi.power import PowerState
from cuckoo_zfsiscsi.service.base import RETRY_MOST
from cuckoo_zfsiscsi.service.boot import ALIVE_TIMEOUT, TELL_TIMEOUT
from cuckoo_zfsiscsi.service.host import Host
from cuckoo_zfsiscsi.service.report import State
from cuckoo_zfsiscsi.service.steps import AFTER_FENCE, FLOWS_TIMEOUT, PROOF_FRESH
from cuckoo_zfsiscsi.service.wishes import Stopped
from cuckoo_zfsiscsi.service.worker import ALIVE_EVERY, FRESH, POWER_EVERY, RETRY_FIRST
from tests.clocks import VirtualClock
from tests.power.fakes import Eyes
from tests.service.conftest import Make
from tests.service.fakes import World
from tests.service.waiting import quiet, wait_for
from tests.waiting import HANG


def test_begins_with_nothing_trusted(make: Make, world: World) -> None:
    quiet(make(), State.CLEAN)
    wanted = ["off", "fence", "swap", "prove"]
    assert [act for act in world.journal if act in wanted] == wanted
    assert world.spare
    assert world.script is None


def test_run_and_stop(make: Make, world: World, clock: VirtualClock) -> None:
    host = make()
    run = host.start("task 7", None)
    report = clock.result(run.booted)
    shown = host.report()
    assert shown.state is State.RUNNING
    assert shown.task == "task 7"
    assert shown.run
    assert report.generation == shown.generation == 1
    assert report.image == "win10@1"
    assert not report.prewarmed
    assert report.recovery_s is not None
    stages = [stage for stage in report.stages if stage in ("power", "login", "rpc", "agent")]
    assert set(stages) == {"power", "login", "rpc", "agent"}
    assert {"fence", "swap", "prove", "arm"} < set(report.stages)

    clock.result(host.stop())
    assert world.power is PowerState.OFF
    quiet(host, State.CLEAN)
    assert clock.result(host.start(None, None).booted).generation == 2


def test_every_run_has_its_own_credentials(make: Make, world: World, clock: VirtualClock) -> None:
    host = make()
    seen = set()
    for _ in range(3):
        clock.result(host.start(None, None).booted)
        assert world.export
        seen.add((world.export.credentials.initiator, world.export.credentials.secret))
        clock.result(host.stop())
    assert len({initiator for initiator, _ in seen}) == len({s for _, s in seen}) == 3


def test_prewarm_hands_over_without_a_boot(make: Make, world: World, clock: VirtualClock) -> None:
    host = make(prewarm=True)
    wait_for(host, State.READY)
    boots = world.journal.count("on")
    report = clock.result(host.start(None, None).booted)
    assert report.prewarmed
    assert world.journal.count("on") == boots
    clock.result(host.stop())
    wait_for(host, State.READY)
    assert host.report().generation == 2


def test_a_boot_under_way_is_joined(make: Make, world: World, clock: VirtualClock) -> None:
    world.answers.discard("agent")
    host = make(prewarm=True)
    wait_for(host, State.BOOTING)
    run = host.start(None, None)
    world.answers.add("agent")
    assert clock.result(run.booted).prewarmed
    assert world.journal.count("on") == 1


def test_prewarmed_but_dead_is_booted_again(make: Make, world: World, clock: VirtualClock) -> None:
    host = make(prewarm=True)
    wait_for(host, State.READY)
    clock.sleep(FRESH + 1.0)  # long enough for a second look
    world.session = None
    assert clock.result(host.start(None, None).booted).generation == 2


def test_a_host_just_ready_needs_no_second_look(
    make: Make, world: World, clock: VirtualClock
) -> None:
    host = make(prewarm=True)
    wait_for(host, State.READY)
    clock.sleep(FRESH)
    looks = world.journal.count("sessions")
    assert clock.result(host.start(None, None).booted).generation == 1
    assert world.journal.count("sessions") == looks


def test_a_dead_standby_is_found_without_a_run(
    make: Make, world: World, clock: VirtualClock
) -> None:
    host = make(prewarm=True)
    wait_for(host, State.READY)
    ready = clock.monotonic()
    world.answers.discard("rpc")
    wait_for(host, State.STOPPING, State.DIRTY, State.CLEAN, State.BOOTING)
    assert clock.monotonic() - ready == ALIVE_EVERY
    world.answers.add("rpc")
    wait_for(host, State.READY)
    assert (host.report().generation or 0) >= 2


def test_a_busy_standby_is_not_dead(make: Make, world: World, clock: VirtualClock) -> None:
    host = make(prewarm=True)
    wait_for(host, State.READY)
    world.busy = ALIVE_TIMEOUT - 1.0
    clock.sleep(3 * ALIVE_EVERY)
    assert clock.result(host.start(None, None).booted).generation == 1


def test_a_standby_grows_old(make: Make, world: World, clock: VirtualClock) -> None:
    age = 1000.0
    host = make(prewarm=True, prewarm_max_age=age)
    wait_for(host, State.READY)
    ready = clock.monotonic()
    clock.until(lambda: host.report().generation == 2, "booted anew", host.report)
    assert clock.monotonic() - ready == age
    wait_for(host, State.READY)
    report = clock.result(host.start(None, None).booted)
    clock.sleep(2 * age)
    assert host.report().generation == report.generation, "a run was ended for its host's age"


def test_the_power_device_is_asked_seldom(make: Make, world: World, clock: VirtualClock) -> None:
    """At the first look after POWER_EVERY, that is; and a run needs no other answer."""
    host, asked = make(prewarm=True), list[float]()
    wait_for(host, State.READY)
    ready = clock.monotonic()
    world.before["status"] = lambda: asked.append(clock.monotonic() - ready)
    clock.until(lambda: len(asked) == 3, "three questions", lambda: asked)
    every = POWER_EVERY + ALIVE_EVERY
    assert asked == [every, 2 * every, 3 * every]
    clock.sleep(POWER_EVERY)
    clock.result(host.start(None, None).booted)
    assert len(asked) == 3
    assert world.journal.count("on") == 1


def stand_by_unseen(host: Host, world: World, clock: VirtualClock) -> None:
    """Stand by for so long that all must be looked at again: its worker is held up meanwhile."""
    world.before["make_spare"] = lambda: clock.sleep(1000.0)
    clock.until(lambda: "make_spare" in world.journal, "held up", host.report)
    del world.before["make_spare"]
    assert host.report().state is State.READY
    clock.sleep(900.0)


@pytest.mark.parametrize("when", ["standing by", "at a run"])
@pytest.mark.parametrize("state", ["off", "unknown"])
def test_a_standby_that_can_not_be_shown_to_be_on(
    make: Make, world: World, state: str, when: str, clock: VirtualClock
) -> None:
    """Session and guest may be remembered, or faked; and who can't be asked can't be stopped."""
    host = make(prewarm=True)
    if when == "at a run":
        stand_by_unseen(host, world, clock)
    wait_for(host, State.READY)
    ready = clock.monotonic()
    if state == "off":
        world.says = PowerState.OFF
        world.before["off"] = lambda: setattr(world, "says", None)
    else:
        world.fail["status"] = PowerError("the BMC does not answer")
        world.before["off"] = world.fail.clear
    if when == "at a run":
        assert clock.result(host.start(None, None).booted).generation == 2
        return
    clock.until(lambda: host.report().generation == 2, "booted anew", host.report)
    assert clock.monotonic() - ready == POWER_EVERY + ALIVE_EVERY


def test_stop_ends_the_last_look_before_a_run(
    make: Make, world: World, clock: VirtualClock
) -> None:
    host = make(prewarm=True)
    stand_by_unseen(host, world, clock)
    world.before["status"] = lambda: clock.sleep(5.0)
    run = host.start(None, None)
    clock.until(lambda: world.journal.count("status") > 0, "the look", host.report)
    clock.result(host.stop())
    with pytest.raises(CancelledError):
        clock.result(run.booted)
    wait_for(host, State.READY)
    assert host.report().generation == 2


def test_late_power_is_no_failure(make: Make, world: World, clock: VirtualClock) -> None:
    host = make()
    clock.result(host.start(None, None).booted)
    world.before["off"] = lambda: clock.sleep(20.0)
    stopping, begin = host.stop(), clock.monotonic()
    clock.sleep(10.0)
    host.overdue(stopping, 10.0)
    with pytest.raises(QuarantinedError, match=r"not yet proved off, 10 s after stop"):
        clock.result(stopping)
    assert host.report().state is State.QUARANTINED
    with pytest.raises(QuarantinedError):
        host.start(None, None)
    host.overdue(stopping, 11.0)  # too late to say anything else
    quiet(host, State.CLEAN)
    assert clock.monotonic() - begin == 20.0
    assert host.report().reason == ""
    clock.result(host.start(None, None).booted)


def test_late_power_that_never_comes(make: Make, world: World, clock: VirtualClock) -> None:
    host = make()
    clock.result(host.start(None, None).booted)
    world.stuck_on = True
    host.overdue(host.stop(), 0.1)
    clock.until(
        lambda: "power off" in host.report().reason, "the failure as the reason", host.report
    )
    failed = clock.monotonic()
    assert host.report().state is State.QUARANTINED
    world.stuck_on = False
    quiet(host, State.CLEAN)
    assert clock.monotonic() - failed == pytest.approx(RETRY_FIRST)


def test_stop_of_a_standby_leaves_it(make: Make, world: World, clock: VirtualClock) -> None:
    host = make(prewarm=True)
    wait_for(host, State.READY)
    clock.result(host.stop())
    assert host.report().state is State.READY
    assert world.power is PowerState.ON


def test_stop_cancels_start(make: Make, world: World, clock: VirtualClock) -> None:
    world.boots = False
    host = make()
    run = host.start(None, None)
    wait_for(host, State.BOOTING)
    begin = clock.monotonic()
    clock.result(host.stop())
    assert clock.monotonic() == begin
    assert world.power is PowerState.OFF
    with pytest.raises(CancelledError, match="stop was asked for"):
        clock.result(run.booted)
    quiet(host, State.CLEAN)


def test_stop_again_and_again(make: Make, clock: VirtualClock) -> None:
    host = make()
    clock.result(host.start(None, None).booted)
    for stopped in [host.stop() for _ in range(5)]:
        clock.result(stopped)
    clock.result(host.stop())


def test_stop_before_anything_is_known(make: Make, world: World, clock: VirtualClock) -> None:
    hold = threading.Event()
    world.before["off"] = lambda: hold.wait(HANG)
    host = make()
    stopped = host.stop()
    assert not stopped.done()
    hold.set()
    clock.result(stopped)
    assert world.power is PowerState.OFF


def test_nobody_waits_any_more(make: Make, world: World, clock: VirtualClock) -> None:
    world.boots = False
    host = make()
    run = host.start(None, None)
    wait_for(host, State.BOOTING)
    host.abandon(run, DeadlineExceededError("too late"))
    with pytest.raises(DeadlineExceededError):
        clock.result(run.booted)
    quiet(host, State.CLEAN)
    assert world.power is PowerState.OFF


def test_second_run_is_refused(make: Make, clock: VirtualClock) -> None:
    host = make()
    clock.result(host.start(None, None).booted)
    with pytest.raises(HostBusyError, match="has a run"):
        host.start(None, None)
    with pytest.raises(HostBusyError):
        host.reset()
    with pytest.raises(HostBusyError):
        host.maintenance(True)
    with pytest.raises(HostBusyError, match="in service"):
        host.switch(PowerState.ON, Deadline(HANG, clock=clock))


def test_another_image(make: Make, world: World, clock: VirtualClock) -> None:
    world.images.add("linux@1")
    host = make(prewarm=True)
    wait_for(host, State.READY)
    report = clock.result(host.start(None, "linux").booted)
    assert report.image == "linux@1"
    clock.result(host.stop())
    wait_for(host, State.READY)
    assert host.report().image == "win10@1"


def test_unknown_image_hurts_nobody(make: Make) -> None:
    host = make()
    quiet(host, State.CLEAN)
    with pytest.raises(ImageError, match="no image nope"):
        host.start(None, "nope")
    assert host.report().state is State.CLEAN


def test_a_new_version_is_taken_at_the_next_start(
    make: Make, world: World, clock: VirtualClock
) -> None:
    host = make()
    quiet(host, State.CLEAN)
    world.images.add("win10@2")
    assert clock.result(host.start(None, None).booted).image == "win10@2"


def test_missing_image_quarantines_and_heals(make: Make, world: World) -> None:
    world.images.clear()
    host = make()
    quiet(host, State.QUARANTINED)
    assert "no image win10" in host.report().reason
    assert "zfsiscsi image import" in host.report().reason
    with pytest.raises(QuarantinedError):
        host.start(None, None)
    world.images.add("win10@1")
    quiet(host, State.CLEAN)
    assert host.report().reason == ""


def test_edits_an_image(make: Make, world: World, clock: VirtualClock) -> None:
    host = make()
    quiet(host, State.CLEAN)
    world.journal.clear()
    assert host.edit("win10", Deadline(HANG, clock=clock)).image == "win10@2"
    clock.until(lambda: world.is_up, "booted from the draft")
    quiet(host, State.MAINTENANCE)
    wanted = ["edit", "off", "fence", "release", "arm", "export", "arm", "on"]  # first, the menu
    assert [act for act in world.journal if act in wanted] == wanted
    assert "prove" not in world.journal
    assert host.report().image == "win10@2"
    with pytest.raises(HostBusyError, match="in maintenance"):
        host.start(None, None)
    host.maintenance(False)
    wait_for(host, State.CLEAN)
    assert world.power is PowerState.OFF
    assert world.journal.index("release") < world.journal.index("swap")
    assert host.report().image == "win10@1"


def test_installs_into_an_image(make: Make, world: World, clock: VirtualClock) -> None:
    host = make()
    host.edit("win10", Deadline(HANG, clock=clock), "http://10.99.0.1/win10.ipxe")
    clock.until(lambda: world.is_up, "booted from the draft")
    assert "chain http://10.99.0.1/win10.ipxe" in world.shown
    host.edit("win10", Deadline(HANG, clock=clock))
    clock.until(
        lambda: world.script is not None and "chain" not in world.shown, "booted without it"
    )


def test_installs_windows_into_an_image(
    make: Make, world: World, tmp_path: Path, clock: VirtualClock
) -> None:
    host = make()
    medium = Medium(tmp_path / "medium", "http://10.99.0.1:8471/install/")
    medium.folder.mkdir()
    for name in ("wimboot", "BCD"):
        (medium.folder / name).touch()
    host.edit("win10", Deadline(HANG, clock=clock), medium)
    clock.until(lambda: world.is_up, "booted from the draft")
    assert "initrd --name BCD http://10.99.0.1:8471/install/BCD" in world.shown
    assert world.files == {name: medium.folder / name for name in ("wimboot", "BCD")}
    host.maintenance(False)
    wait_for(host, State.CLEAN)
    assert world.files == {}
    assert not medium.folder.exists()


def test_boots_no_draft_that_was_sealed_meanwhile(
    make: Make, world: World, clock: VirtualClock
) -> None:
    host = make()
    quiet(host, State.CLEAN)
    world.before["release"] = world.drafts.clear
    host.edit("win10", Deadline(HANG, clock=clock))
    quiet(host, State.QUARANTINED)
    assert "win10@2 was sealed or deleted before pc1 could boot it" in host.report().reason
    assert world.power is PowerState.OFF


def test_ends_an_edit_and_stays_in_maintenance(
    make: Make, world: World, clock: VirtualClock
) -> None:
    host = make()
    host.edit("win10", Deadline(HANG, clock=clock))
    clock.until(lambda: world.is_up, "booted from the draft")
    host.maintenance(True)
    clock.until(lambda: world.export is None, "fenced")
    quiet(host, State.MAINTENANCE)
    assert world.power is PowerState.OFF
    assert host.report().image is None


def test_edits_nothing_while_it_is_used(make: Make, world: World, clock: VirtualClock) -> None:
    host = make()
    clock.result(host.start(None, None).booted)
    with pytest.raises(HostBusyError, match="no edit now"):
        host.edit("win10", Deadline(HANG, clock=clock))
    assert "edit" not in world.journal


def test_no_draft_to_be_had(make: Make, world: World, clock: VirtualClock) -> None:
    host = make()
    quiet(host, State.CLEAN)
    world.fail["edit"] = ImageError("pc2 edits win10")
    with pytest.raises(ImageError, match="pc2"):
        host.edit("win10", Deadline(HANG, clock=clock))
    assert host.report().state is State.CLEAN


def test_no_boot_is_told_with_stage_and_fix(make: Make, world: World, clock: VirtualClock) -> None:
    world.boots = False
    host = make()
    quiet(host, State.CLEAN)
    run, begin = host.start(None, None), clock.monotonic()
    with pytest.raises(NotReadyError, match=r"in 180 s: no dhcp") as caught:
        clock.result(run.booted)
    assert clock.monotonic() - begin == pytest.approx(host.config.boot_timeout)
    assert "network boot" in caught.value.fix
    assert world.power is PowerState.OFF
    assert world.export is None
    assert host.report().state is State.QUARANTINED
    with pytest.raises(QuarantinedError, match="zfsiscsi reset"):
        host.start(None, None)
    clock.result(host.stop())  # it is off: there is nothing to say
    world.boots = True
    quiet(host, State.CLEAN)
    clock.result(host.start(None, None).booted)


@pytest.mark.parametrize("stage", ["rpc", "agent"])
def test_silent_guest(make: Make, world: World, stage: str, clock: VirtualClock) -> None:
    world.answers.discard(stage)
    host = make()
    with pytest.raises(NotReadyError, match=f"no {stage}"):
        clock.result(host.start(None, None).booted)


def test_booted_from_elsewhere_is_never_ready(
    make: Make, world: World, clock: VirtualClock
) -> None:
    world.boots, world.spontaneous = False, True
    host = make()
    run = host.start(None, None)
    clock.until(lambda: "on" in world.journal, "switched on", host.report)
    clock.sleep(5.0)
    for stage in ("dhcp", "script"):
        host.note(stage, clock.monotonic())
    with pytest.raises(NotReadyError, match="booted from something else"):
        clock.result(run.booted)


def test_power_stuck_on(make: Make, world: World, clock: VirtualClock) -> None:
    host = make()
    clock.result(host.start(None, None).booted)
    world.stuck_on = True
    with pytest.raises(QuarantinedError, match="power off"):
        clock.result(host.stop())
    quiet(host, State.QUARANTINED)
    assert world.export is None, "not fenced"
    with pytest.raises(QuarantinedError):
        clock.result(host.stop())
    world.stuck_on = False
    quiet(host, State.CLEAN)


def test_switched_on_by_itself(make: Make, world: World, clock: VirtualClock) -> None:
    host = make()
    quiet(host, State.CLEAN)
    clock.sleep(PROOF_FRESH)  # long enough for a second proof
    world.power = PowerState.ON
    assert clock.result(host.start(None, None).booted).generation == 2


@pytest.mark.parametrize("act", ["off", "fence", "swap", "prove", "taint", "export", "arm", "on"])
def test_any_step_fails_then_heals(make: Make, world: World, act: str, clock: VirtualClock) -> None:
    errors = {"off": PowerError, "on": PowerError, "fence": TargetError, "export": TargetError}
    host = make()
    quiet(host, State.CLEAN)
    world.fail[act] = errors.get(act, UnprovenDiskError)(f"{act} does not work", fix="mend it")
    if act in ("off", "fence", "swap"):
        host.reset()
    else:
        run = host.start(None, None)
        with pytest.raises(errors.get(act, UnprovenDiskError), match="does not work"):
            clock.result(run.booted)
    quiet(host, State.QUARANTINED)
    assert "does not work" in host.report().reason
    assert world.session is None
    assert world.script is None
    world.fail.clear()
    quiet(host, State.CLEAN)
    clock.result(host.start(None, None).booted)


def test_a_bug_quarantines_too(make: Make, world: World, clock: VirtualClock) -> None:
    host = make()
    quiet(host, State.CLEAN)

    def bug() -> None:
        raise RuntimeError("a bug")

    world.before["arm"] = bug
    with pytest.raises(QuarantinedError, match="a bug"):
        clock.result(host.start(None, None).booted)
    world.before.clear()
    quiet(host, State.CLEAN)


def test_maintenance(make: Make, world: World, clock: VirtualClock) -> None:
    host = make(prewarm=True)
    wait_for(host, State.READY)
    host.maintenance(True)
    quiet(host, State.MAINTENANCE)
    assert world.power is PowerState.OFF
    assert world.export is None
    with pytest.raises(HostBusyError, match="in maintenance"):
        host.start(None, None)
    host.switch(PowerState.ON, Deadline(HANG, clock=clock))
    assert host.power(Deadline(HANG, clock=clock)) is PowerState.ON
    assert world.session is None, "booted in maintenance"
    assert "menu pc1 is in maintenance" in world.shown
    host.maintenance(True)
    host.maintenance(False)
    wait_for(host, State.READY)
    assert "menu" not in world.shown


def test_reset_of_an_idle_host(make: Make, clock: VirtualClock) -> None:
    host = make()
    quiet(host, State.CLEAN)
    host.reset()
    wait_for(host, State.STOPPING, State.DIRTY, State.CLEAN)
    clock.until(lambda: host.report().generation == 2, "another disk")


def test_background_trouble_is_a_warning(make: Make, world: World, clock: VirtualClock) -> None:
    world.fail["make_spare"] = ImageError("no space")
    host = make()
    quiet(host, State.CLEAN)
    assert host.report().warning == "no space"
    world.fail.clear()
    clock.result(host.start(None, None).booted)
    clock.until(lambda: not host.report().warning, "a spare")


def test_told_its_default_route(make: Make, world: World, clock: VirtualClock) -> None:
    """Once all probes have answered, and before the last look at its session."""
    world.answers.discard("agent")
    host = make(network_via="agent")
    run = host.start(None, None)
    clock.until(lambda: world.is_up, "booted")
    clock.sleep(5.0)
    assert "tell" not in world.journal
    world.answers.add("agent")
    assert clock.result(run.booted).warning == ""
    assert world.journal.count("tell") == 1
    assert world.journal[world.journal.index("tell") + 1] == "sessions"
    clock.sleep(3 * ALIVE_EVERY)
    clock.result(host.stop())
    clock.result(host.start(None, None).booted)
    assert world.journal.count("tell") == 2, "not once per boot"


def test_nobody_tells_who_asks_dhcp(make: Make, world: World, clock: VirtualClock) -> None:
    clock.result(make(network_via="dhcp").start(None, None).booted)
    assert "tell" not in world.journal


def test_told_once_though_the_session_is_away(
    make: Make, world: World, clock: VirtualClock
) -> None:
    session = []

    def hide() -> None:
        session.append(world.session)
        world.session = world.firmware = None

    world.before["tell"] = hide
    world.answers.discard("agent")
    host = make(network_via="agent")
    run = host.start(None, None)
    world.spontaneous = True
    world.answers.add("agent")
    clock.until(lambda: session, "told")
    clock.sleep(5.0)
    assert not run.booted.done()
    (world.session,) = session
    clock.result(run.booted)
    assert world.journal.count("tell") == 1


def test_not_told_is_a_warning(make: Make, world: World, clock: VirtualClock) -> None:
    world.warning = "pc1 was not told"
    host = make(network_via="agent")
    assert clock.result(host.start(None, None).booted).warning == "pc1 was not told"
    assert host.report().state is State.RUNNING
    assert host.report().warning == "pc1 was not told"
    world.fail["make_spare"] = ImageError("no space")
    clock.result(host.stop())
    quiet(host, State.CLEAN)
    assert host.report().warning == "no space; pc1 was not told"
    world.warning = ""
    world.fail.clear()
    assert clock.result(host.start(None, None).booted).warning == ""
    clock.until(lambda: not host.report().warning, "no warning any more")


def test_told_while_it_is_prewarmed(make: Make, world: World, clock: VirtualClock) -> None:
    world.warning = "pc1 was not told"
    host = make(prewarm=True, network_via="agent")
    wait_for(host, State.READY)
    assert world.journal.count("tell") == 1
    report = clock.result(host.start(None, None).booted)
    assert (report.prewarmed, report.warning) == (True, "pc1 was not told")
    assert world.journal.count("tell") == 1


def test_telling_takes_a_time_of_its_own(make: Make, world: World, clock: VirtualClock) -> None:
    """A host is ready by then: that its boot_timeout ends meanwhile is no failure."""
    world.before["tell"] = lambda: clock.sleep(TELL_TIMEOUT - 1.0)
    host = make(network_via="agent", boot_timeout=10.0)
    clock.result(host.start(None, None).booted)


def test_stopped_while_it_is_told(make: Make, world: World, clock: VirtualClock) -> None:
    host = make(network_via="agent")
    stopped: list[Stopped] = []
    world.before["tell"] = lambda: stopped.append(host.stop())
    with pytest.raises(CancelledError):
        clock.result(host.start(None, None).booted)
    clock.result(stopped[0])
    assert world.power is PowerState.OFF


def between(journal: list[str], first: str, last: str, what: str) -> list[int]:
    """Return, for each time that the last follows the first, how often this comes between them."""
    counts, begin = [], None
    for at, name in enumerate(journal):
        if name == first:
            begin = at
        elif name == last and begin is not None:
            counts.append(journal[begin:at].count(what))
            begin = None
    return counts


def test_flows_are_deleted_while_it_is_off(make: Make, world: World, clock: VirtualClock) -> None:
    """Once for each run: that it is off then is for the fake to see."""
    host = make()
    for _ in range(3):
        clock.result(host.start(None, None).booted)
        clock.result(host.stop())
    assert between(world.journal, "off", "on", "flows") == [1, 1, 1]


def test_a_quarantined_host_has_no_flows_left(
    make: Make, world: World, clock: VirtualClock
) -> None:
    host = make()
    clock.result(host.start(None, None).booted)
    world.stuck_on = True
    with pytest.raises(QuarantinedError):
        clock.result(host.stop())
    flows = world.journal.count("flows")
    clock.sleep(RETRY_FIRST / 2)
    assert world.journal.count("flows") == flows, "with power on"
    world.stuck_on = False
    quiet(host, State.CLEAN)
    assert between(world.journal, "off", "on", "flows")[1:] == [1]


def test_a_draft_is_not_booted_with_the_flows_of_a_run(
    make: Make, world: World, clock: VirtualClock
) -> None:
    host = make()
    clock.result(host.start(None, None).booted)
    clock.result(host.stop())
    host.edit("win10", Deadline(HANG, clock=clock))
    clock.until(lambda: world.journal.count("on") == 2, "the draft")
    assert between(world.journal, "off", "on", "flows") == [1, 1]


def test_no_stop_waits_for_flows(make: Make, world: World, clock: VirtualClock) -> None:
    host = make()
    clock.result(host.start(None, None).booted)
    slow = FLOWS_TIMEOUT - 1.0
    world.before["flows"] = lambda: clock.sleep(slow)
    begin = clock.monotonic()
    clock.result(host.stop())
    assert clock.monotonic() - begin < slow
    report = clock.result(host.start(None, None).booted)
    assert clock.monotonic() - begin >= slow, "the next run does"
    assert report.recovery_s
    assert report.recovery_s >= slow, "and it says so"


def test_flows_that_are_left_are_a_warning(make: Make, world: World, clock: VirtualClock) -> None:
    world.flows_warning = "connections may go on"
    host = make(network_via="agent")
    assert clock.result(host.start(None, None).booted).warning == "connections may go on"
    assert host.report().warning == "connections may go on"
    clock.result(host.stop())
    world.warning = "pc1 was not told"
    both = "connections may go on; pc1 was not told"
    assert clock.result(host.start(None, None).booted).warning == both
    world.flows_warning = world.warning = ""
    clock.result(host.stop())
    assert clock.result(host.start(None, None).booted).warning == ""


def test_the_pauses_of_a_quarantine(make: Make, world: World, clock: VirtualClock) -> None:
    """Each is twice the last, up to RETRY_MOST; a host that has healed begins anew."""
    host, tries = make(), list[float]()
    quiet(host, State.CLEAN)
    for _ in range(2):
        tries.clear()
        world.before["off"] = lambda: tries.append(clock.monotonic())
        world.fail["off"] = PowerError("the BMC does not answer")
        host.reset()
        clock.until(lambda: len(tries) == 9, "nine attempts", lambda: tries)
        quiet(host, State.QUARANTINED)
        pauses = [after - before for before, after in pairwise(tries)]
        assert pauses == [30.0, 60.0, 120.0, 240.0, 480.0, 600.0, 600.0, 600.0]
        assert (pauses[0], pauses[-1]) == (RETRY_FIRST, RETRY_MOST)
        world.fail.clear()
        quiet(host, State.CLEAN)
        assert clock.monotonic() - tries[8] == RETRY_MOST


def test_close_during_a_run(make: Make, world: World, clock: VirtualClock) -> None:
    host = make()
    clock.result(host.start(None, None).booted)
    host.close()
    assert host.join(Deadline(HANG, clock=clock))
    with pytest.raises(HostBusyError):
        host.start(None, None)


def test_close_while_power_is_stuck(make: Make, world: World, clock: VirtualClock) -> None:
    host = make()
    clock.result(host.start(None, None).booted)
    world.stuck_on = True
    host.close()
    assert not host.join(Deadline(HANG, clock=clock))
    world.stuck_on = False
    world.switch_off()
    host._state = State.DIRTY  # what the fixture checks is not for this one


@pytest.mark.parametrize("act", ["reset", "status", "switch"])
def test_a_person_may_try_a_refused_password(
    make: Make, world: World, clock: VirtualClock, act: str
) -> None:
    host = make()
    quiet(host, State.CLEAN)
    assert "forget refusals" not in world.journal
    if act == "reset":
        host.reset()
    elif act == "status":
        host.power(Deadline(HANG, clock=clock))
    else:
        host.maintenance(True)
        quiet(host, State.MAINTENANCE)
        host.switch(PowerState.OFF, Deadline(HANG, clock=clock))
    assert world.journal.count("forget refusals") == 1


@pytest.mark.parametrize("error", [RecursionError("nested"), MemoryError()])
def test_whatever_a_power_device_raises_is_survived(
    make: Make, world: World, clock: VirtualClock, error: Exception
) -> None:
    host = make()
    quiet(host, State.CLEAN)
    clock.result(host.start(None, None).booted)
    world.fail["off"] = error  # type: ignore[assignment]
    with pytest.raises(QuarantinedError):
        clock.result(host.stop())
    assert "fence" in world.journal[-2:]
    assert world.script is None
    world.fail.clear()
    quiet(host, State.CLEAN)
    assert not host.report().reason


@pytest.mark.parametrize("what", ["_note", "_next", "make_safe"])
def test_a_failure_of_the_quarantine_itself_is_survived(
    make: Make, world: World, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    host = make()
    quiet(host, State.CLEAN)
    clock.result(host.start(None, None).booted)
    where = host._steps if what == "make_safe" else host
    whole, failures = getattr(where, what), [MemoryError(), MemoryError()]

    def fail(*args: object, **options: object) -> object:
        if failures:
            raise failures.pop()
        return whole(*args, **options)

    world.fail["off"] = PowerError("it does not answer")
    monkeypatch.setattr(where, what, fail)
    stopped = host.stop()
    with pytest.raises(QuarantinedError):
        clock.result(stopped)
    world.fail.clear()
    quiet(host, State.CLEAN)
    assert not host.report().reason
    clock.result(host.start(None, None).booted)


def test_a_guest_that_answers_its_fence_is_on(
    make: Make, world: World, clock: VirtualClock
) -> None:
    eyes = Eyes()
    host = make(witness=eyes)
    quiet(host, State.CLEAN)
    clock.result(host.start(None, None).booted)
    eyes.heard = "it answers the loss of its iSCSI session"
    cuts = world.journal.count("off")
    clock.result(host.stop())
    wait_for(host, State.QUARANTINED)
    assert "was proved off, but it answers the loss of its iSCSI session" in host.report().reason
    assert world.journal.count("off") == cuts + 2, "it is cut again"
    assert world.script is None
    assert world.export is None
    eyes.heard = ""
    quiet(host, State.CLEAN)
    assert not host.report().reason


def test_how_long_the_fence_is_listened_to(make: Make, world: World, clock: VirtualClock) -> None:
    """Not longer than that, beside what goes on anyway."""
    world.before["swap"] = lambda: clock.sleep(0.2)
    host = make(witness=Eyes())
    clock.result(host.start(None, None).booted)
    steps = host._steps.reset_steps
    assert steps["swap"] == pytest.approx(0.2)
    assert host._steps._down_s == pytest.approx(AFTER_FENCE)


def test_the_last_look_before_it_is_switched_on(
    make: Make, world: World, clock: VirtualClock
) -> None:
    """Its disk is exported by then, and nobody has the credentials."""
    eyes = Eyes()
    host = make(witness=eyes)
    quiet(host, State.CLEAN)
    eyes.sign = "its agent answers"
    run = host.start(None, None)
    with pytest.raises(NotOffError, match="pc1 was proved off, but its agent answers"):
        clock.result(run.booted)
    assert "on" not in world.journal
    assert "arm" not in world.journal
    wait_for(host, State.QUARANTINED)
    clock.until(lambda: world.export is None, "it is fenced")
    eyes.sign = ""
    quiet(host, State.CLEAN)


def test_who_answers_in_its_place_is_a_warning_of_its_next_boot(
    make: Make, world: World, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = make()
    quiet(host, State.CLEAN)
    power, who = host._steps.parts.power, "00:11:22:33:44:02, the card of pc2, answers ARP for it"
    off = power.off
    monkeypatch.setattr(
        power, "off", lambda deadline: replace(off(deadline=deadline), others=(who,))
    )
    for _ in range(2):
        clock.result(host.start(None, None).booted)
        clock.result(host.stop())
    clock.result(host.start(None, None).booted)
    assert host.report().warning == who


@pytest.mark.parametrize("reached", [(), ("dhcp",), ("dhcp", "tftp"), ("dhcp", "tftp", "ipxe")])
def test_a_host_that_came_up_from_elsewhere_is_recognised(
    make: Make, world: World, clock: VirtualClock, reached: tuple[str, ...]
) -> None:
    world.boots = False
    world.spontaneous = True
    host = make()

    def show() -> None:
        for stage in reached:
            host.note(stage, clock.monotonic())

    world.before["on"] = show
    with pytest.raises(NotReadyError, match="though its RPC answers: it booted from something"):
        clock.result(host.start(None, None).booted)
    assert "take the internal disk and USB sticks out of pc1" in host.report().reason

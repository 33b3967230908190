"""One host and its worker, over hardware that fails on command."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import (
    CancelledError,
    DeadlineExceededError,
    HostBusyError,
    ImageError,
    NotReadyError,
    PowerError,
    QuarantinedError,
    TargetError,
    UnprovenDiskError,
)
from cuckoo_zfsiscsi.netboot.medium import Medium
from cuckoo_zfsiscsi.power import PowerState
from cuckoo_zfsiscsi.service import worker
from cuckoo_zfsiscsi.service.host import Host
from cuckoo_zfsiscsi.service.report import State
from tests.service.conftest import Make
from tests.service.fakes import World
from tests.service.waiting import SOON, boot_within, quiet, until, wait_for


def test_begins_with_nothing_trusted(make: Make, world: World) -> None:
    quiet(make(), State.CLEAN)
    wanted = ["off", "fence", "swap", "prove"]
    assert [act for act in world.journal if act in wanted] == wanted
    assert world.spare
    assert world.script is None


def test_run_and_stop(make: Make, world: World) -> None:
    host = make()
    run = host.start("task 7", None)
    report = run.booted.result(SOON)
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

    host.stop().result(SOON)
    assert world.power is PowerState.OFF
    quiet(host, State.CLEAN)
    assert host.start(None, None).booted.result(SOON).generation == 2


def test_every_run_has_its_own_credentials(make: Make, world: World) -> None:
    host = make()
    seen = set()
    for _ in range(3):
        host.start(None, None).booted.result(SOON)
        assert world.export
        seen.add((world.export.credentials.initiator, world.export.credentials.secret))
        host.stop().result(SOON)
    assert len({initiator for initiator, _ in seen}) == len({s for _, s in seen}) == 3


def test_prewarm_hands_over_without_a_boot(make: Make, world: World) -> None:
    host = make(prewarm=True)
    wait_for(host, State.READY)
    boots = world.journal.count("on")
    report = host.start(None, None).booted.result(SOON)
    assert report.prewarmed
    assert world.journal.count("on") == boots
    host.stop().result(SOON)
    wait_for(host, State.READY)
    assert host.report().generation == 2


def test_a_boot_under_way_is_joined(make: Make, world: World) -> None:
    world.answers.discard("agent")
    host = make(prewarm=True)
    wait_for(host, State.BOOTING)
    run = host.start(None, None)
    world.answers.add("agent")
    assert run.booted.result(SOON).prewarmed
    assert world.journal.count("on") == 1


def test_prewarmed_but_dead_is_booted_again(make: Make, world: World) -> None:
    host = make(prewarm=True)
    wait_for(host, State.READY)
    host._ready_at -= 60  # long enough ago for a second look
    world.session = None
    assert host.start(None, None).booted.result(SOON).generation == 2


def test_a_dead_standby_is_found_without_a_run(
    make: Make, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "ALIVE_EVERY", 0.05)
    host = make(prewarm=True)
    wait_for(host, State.READY)
    world.answers.discard("rpc")
    wait_for(host, State.STOPPING, State.DIRTY, State.CLEAN, State.BOOTING)
    world.answers.add("rpc")
    wait_for(host, State.READY)
    assert (host.report().generation or 0) >= 2


def test_a_standby_grows_old(make: Make, world: World) -> None:
    began = time.monotonic()
    host = make(prewarm=True, prewarm_max_age=0.3)
    until(lambda: host.report().generation == 2, "booted anew")
    assert time.monotonic() - began > 0.3
    wait_for(host, State.READY)
    report = host.start(None, None).booted.result(SOON)
    time.sleep(0.5)
    assert host.report().generation == report.generation, "a run was ended for its host's age"


def stood_by(host: Host) -> None:
    """Have it stand by for long enough to be looked at again, its power device too."""
    assert host._steps.boot
    host._steps.boot._power_seen -= 1000
    host._ready_at -= 1000


def test_the_power_device_is_asked_seldom(
    make: Make, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "ALIVE_EVERY", 0.02)
    monkeypatch.setattr(worker, "POWER_EVERY", 0.3)
    host = make(prewarm=True)
    wait_for(host, State.READY)
    began, before = time.monotonic(), world.journal.count("status")
    until(lambda: world.journal.count("status") >= before + 3, "three questions")
    assert time.monotonic() - began > 0.55
    host._ready_at -= 60
    host.start(None, None).booted.result(SOON)
    assert world.journal.count("on") == 1


@pytest.mark.parametrize("state", ["off", "unknown"])
def test_a_standby_that_can_not_be_shown_to_be_on(make: Make, world: World, state: str) -> None:
    """Session and guest may be remembered, or faked; and who can't be asked can't be stopped."""
    host = make(prewarm=True)
    wait_for(host, State.READY)
    stood_by(host)
    if state == "off":
        world.power = PowerState.OFF
        world.spontaneous = True
    else:
        world.fail["status"] = PowerError("the BMC does not answer")
        world.before["off"] = world.fail.clear
    assert host.start(None, None).booted.result(SOON).generation == 2


def test_stop_ends_the_last_look_before_a_run(make: Make, world: World) -> None:
    hold = threading.Event()
    host = make(prewarm=True)
    wait_for(host, State.READY)
    stood_by(host)
    world.before["status"] = lambda: hold.wait(0.5)
    run = host.start(None, None)
    until(lambda: world.journal.count("status") > 0, "the look")
    host.stop().result(SOON)
    with pytest.raises(CancelledError):
        run.booted.result(SOON)
    hold.set()
    wait_for(host, State.READY)
    assert host.report().generation == 2


def test_late_power_is_no_failure(make: Make, world: World) -> None:
    hold = threading.Event()
    host = make()
    host.start(None, None).booted.result(SOON)
    world.before["off"] = lambda: hold.wait(SOON)
    stopping = host.stop()
    host.overdue(stopping, 10.0)
    with pytest.raises(QuarantinedError, match=r"not yet proved off, 10 s after stop"):
        stopping.result(SOON)
    assert host.report().state is State.QUARANTINED
    with pytest.raises(QuarantinedError):
        host.start(None, None)
    host.overdue(stopping, 11.0)  # too late to say anything else
    hold.set()
    quiet(host, State.CLEAN)
    assert host.report().reason == ""
    host.start(None, None).booted.result(SOON)


def test_late_power_that_never_comes(make: Make, world: World) -> None:
    host = make()
    host.start(None, None).booted.result(SOON)
    world.stuck_on = True
    host.overdue(host.stop(), 0.1)
    until(lambda: "power off" in host.report().reason, "the failure itself as the reason")
    assert host.report().state is State.QUARANTINED
    world.stuck_on = False
    quiet(host, State.CLEAN)


def test_stop_of_a_standby_leaves_it(make: Make, world: World) -> None:
    host = make(prewarm=True)
    wait_for(host, State.READY)
    host.stop().result(SOON)
    assert host.report().state is State.READY
    assert world.power is PowerState.ON


def test_stop_cancels_start(make: Make, world: World) -> None:
    world.boots = False
    host = make()
    run = host.start(None, None)
    wait_for(host, State.BOOTING)
    begin = time.monotonic()
    host.stop().result(SOON)
    assert time.monotonic() - begin < 5
    assert world.power is PowerState.OFF
    with pytest.raises(CancelledError, match="stop was asked for"):
        run.booted.result(SOON)
    quiet(host, State.CLEAN)


def test_stop_again_and_again(make: Make) -> None:
    host = make()
    host.start(None, None).booted.result(SOON)
    for stopped in [host.stop() for _ in range(5)]:
        stopped.result(SOON)
    host.stop().result(SOON)


def test_stop_before_anything_is_known(make: Make, world: World) -> None:
    hold = threading.Event()
    world.before["off"] = lambda: hold.wait(SOON)
    host = make()
    stopped = host.stop()
    assert not stopped.done()
    hold.set()
    stopped.result(SOON)
    assert world.power is PowerState.OFF


def test_nobody_waits_any_more(make: Make, world: World) -> None:
    world.boots = False
    host = make()
    run = host.start(None, None)
    wait_for(host, State.BOOTING)
    host.abandon(run, DeadlineExceededError("too late"))
    with pytest.raises(DeadlineExceededError):
        run.booted.result(SOON)
    quiet(host, State.CLEAN)
    assert world.power is PowerState.OFF


def test_second_run_is_refused(make: Make) -> None:
    host = make()
    host.start(None, None).booted.result(SOON)
    with pytest.raises(HostBusyError, match="has a run"):
        host.start(None, None)
    with pytest.raises(HostBusyError):
        host.reset()
    with pytest.raises(HostBusyError):
        host.maintenance(True)
    with pytest.raises(HostBusyError, match="in service"):
        host.switch(PowerState.ON, Deadline(SOON))


def test_another_image(make: Make, world: World) -> None:
    world.images.add("linux@1")
    host = make(prewarm=True)
    wait_for(host, State.READY)
    report = host.start(None, "linux").booted.result(SOON)
    assert report.image == "linux@1"
    host.stop().result(SOON)
    wait_for(host, State.READY)
    assert host.report().image == "win10@1"


def test_unknown_image_hurts_nobody(make: Make) -> None:
    host = make()
    quiet(host, State.CLEAN)
    with pytest.raises(ImageError, match="no image nope"):
        host.start(None, "nope")
    assert host.report().state is State.CLEAN


def test_a_new_version_is_taken_at_the_next_start(make: Make, world: World) -> None:
    host = make()
    quiet(host, State.CLEAN)
    world.images.add("win10@2")
    assert host.start(None, None).booted.result(SOON).image == "win10@2"


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


def test_edits_an_image(make: Make, world: World) -> None:
    host = make()
    quiet(host, State.CLEAN)
    world.journal.clear()
    assert host.edit("win10", Deadline(SOON)).image == "win10@2"
    until(lambda: world.is_up, "booted from the draft")
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


def test_installs_into_an_image(make: Make, world: World) -> None:
    host = make()
    host.edit("win10", Deadline(SOON), "http://10.99.0.1/win10.ipxe")
    until(lambda: world.is_up, "booted from the draft")
    assert world.script
    assert "chain http://10.99.0.1/win10.ipxe" in world.script
    host.edit("win10", Deadline(SOON))
    until(lambda: world.script is not None and "chain" not in world.script, "booted without it")


def test_installs_windows_into_an_image(make: Make, world: World, tmp_path: Path) -> None:
    host = make()
    medium = Medium(tmp_path / "medium", "http://10.99.0.1:8471/install/")
    medium.folder.mkdir()
    for name in ("wimboot", "BCD"):
        (medium.folder / name).touch()
    host.edit("win10", Deadline(SOON), medium)
    until(lambda: world.is_up, "booted from the draft")
    assert world.script
    assert "initrd --name BCD http://10.99.0.1:8471/install/BCD" in world.script
    assert world.files == {name: medium.folder / name for name in ("wimboot", "BCD")}
    host.maintenance(False)
    wait_for(host, State.CLEAN)
    assert world.files == {}
    assert not medium.folder.exists()


def test_boots_no_draft_that_was_sealed_meanwhile(make: Make, world: World) -> None:
    host = make()
    quiet(host, State.CLEAN)
    world.before["release"] = world.drafts.clear
    host.edit("win10", Deadline(SOON))
    quiet(host, State.QUARANTINED)
    assert "win10@2 was sealed or deleted before pc1 could boot it" in host.report().reason
    assert world.power is PowerState.OFF


def test_ends_an_edit_and_stays_in_maintenance(make: Make, world: World) -> None:
    host = make()
    host.edit("win10", Deadline(SOON))
    until(lambda: world.is_up, "booted from the draft")
    host.maintenance(True)
    until(lambda: world.export is None, "fenced")
    quiet(host, State.MAINTENANCE)
    assert world.power is PowerState.OFF
    assert host.report().image is None


def test_edits_nothing_while_it_is_used(make: Make, world: World) -> None:
    host = make()
    host.start(None, None).booted.result(SOON)
    with pytest.raises(HostBusyError, match="no edit now"):
        host.edit("win10", Deadline(SOON))
    assert "edit" not in world.journal


def test_no_draft_to_be_had(make: Make, world: World) -> None:
    host = make()
    quiet(host, State.CLEAN)
    world.fail["edit"] = ImageError("pc2 edits win10")
    with pytest.raises(ImageError, match="pc2"):
        host.edit("win10", Deadline(SOON))
    assert host.report().state is State.CLEAN


def test_no_boot_is_told_with_stage_and_fix(make: Make, world: World) -> None:
    world.boots = False
    host = make(boot_timeout=0.4)
    run = host.start(None, None)
    with pytest.raises(NotReadyError, match="no dhcp") as caught:
        run.booted.result(SOON)
    assert "network boot" in caught.value.fix
    assert world.power is PowerState.OFF
    assert world.export is None
    assert host.report().state is State.QUARANTINED
    with pytest.raises(QuarantinedError, match="zfsiscsi reset"):
        host.start(None, None)
    host.stop().result(SOON)  # it is off: there is nothing to say
    world.boots = True
    boot_within(host, SOON)
    quiet(host, State.CLEAN)
    host.start(None, None).booted.result(SOON)


@pytest.mark.parametrize("stage", ["rpc", "agent"])
def test_silent_guest(make: Make, world: World, stage: str) -> None:
    world.answers.discard(stage)
    host = make(boot_timeout=0.4)
    with pytest.raises(NotReadyError, match=f"no {stage}"):
        host.start(None, None).booted.result(SOON)


def test_booted_from_elsewhere_is_never_ready(make: Make, world: World) -> None:
    world.boots, world.spontaneous = False, True
    host = make(boot_timeout=0.4)
    run = host.start(None, None)
    while not run.booted.done():
        host.note("dhcp", time.monotonic())
        host.note("script", time.monotonic())
        time.sleep(0.01)
    with pytest.raises(NotReadyError, match="booted from something else"):
        run.booted.result(SOON)


def test_power_stuck_on(make: Make, world: World) -> None:
    host = make()
    host.start(None, None).booted.result(SOON)
    world.stuck_on = True
    with pytest.raises(QuarantinedError, match="power off"):
        host.stop().result(SOON)
    quiet(host, State.QUARANTINED)
    assert world.export is None, "not fenced"
    with pytest.raises(QuarantinedError):
        host.stop().result(SOON)
    world.stuck_on = False
    quiet(host, State.CLEAN)


def test_switched_on_by_itself(make: Make, world: World) -> None:
    host = make()
    quiet(host, State.CLEAN)
    host._steps._off_at = float("-inf")  # long enough ago
    world.power = PowerState.ON
    assert host.start(None, None).booted.result(SOON).generation == 2


@pytest.mark.parametrize("act", ["off", "fence", "swap", "prove", "taint", "export", "arm", "on"])
def test_any_step_fails_then_heals(make: Make, world: World, act: str) -> None:
    errors = {"off": PowerError, "on": PowerError, "fence": TargetError, "export": TargetError}
    host = make()
    quiet(host, State.CLEAN)
    world.fail[act] = errors.get(act, UnprovenDiskError)(f"{act} does not work", fix="mend it")
    if act in ("off", "fence", "swap"):
        host.reset()
    else:
        run = host.start(None, None)
        with pytest.raises(errors.get(act, UnprovenDiskError), match="does not work"):
            run.booted.result(SOON)
    quiet(host, State.QUARANTINED)
    assert "does not work" in host.report().reason
    assert world.session is None
    assert world.script is None
    world.fail.clear()
    quiet(host, State.CLEAN)
    host.start(None, None).booted.result(SOON)


def test_a_bug_quarantines_too(make: Make, world: World) -> None:
    host = make()
    quiet(host, State.CLEAN)

    def bug() -> None:
        raise RuntimeError("a bug")

    world.before["arm"] = bug
    with pytest.raises(QuarantinedError, match="a bug"):
        host.start(None, None).booted.result(SOON)
    world.before.clear()
    quiet(host, State.CLEAN)


def test_maintenance(make: Make, world: World) -> None:
    host = make(prewarm=True)
    wait_for(host, State.READY)
    host.maintenance(True)
    quiet(host, State.MAINTENANCE)
    assert world.power is PowerState.OFF
    assert world.export is None
    with pytest.raises(HostBusyError, match="in maintenance"):
        host.start(None, None)
    host.switch(PowerState.ON, Deadline(SOON))
    assert host.power(Deadline(SOON)) is PowerState.ON
    assert world.session is None, "booted in maintenance"
    assert world.script
    assert "menu pc1 is in maintenance" in world.script
    host.maintenance(True)
    host.maintenance(False)
    wait_for(host, State.READY)
    assert "menu" not in world.script


def test_reset_of_an_idle_host(make: Make) -> None:
    host = make()
    quiet(host, State.CLEAN)
    host.reset()
    wait_for(host, State.STOPPING, State.DIRTY, State.CLEAN)
    until(lambda: host.report().generation == 2, "another disk")


def test_background_trouble_is_a_warning(make: Make, world: World) -> None:
    world.fail["make_spare"] = ImageError("no space")
    host = make()
    quiet(host, State.CLEAN)
    assert host.report().warning == "no space"
    world.fail.clear()
    host.start(None, None).booted.result(SOON)
    until(lambda: not host.report().warning, "a spare")


def test_close_during_a_run(make: Make, world: World) -> None:
    host = make()
    host.start(None, None).booted.result(SOON)
    host.close()
    assert host.join(Deadline(SOON))
    with pytest.raises(HostBusyError):
        host.start(None, None)


def test_close_while_power_is_stuck(make: Make, world: World) -> None:
    host = make()
    host.start(None, None).booted.result(SOON)
    world.stuck_on = True
    host.close()
    assert not host.join(Deadline(SOON))
    world.stuck_on = False
    world.switch_off()
    host._state = State.DIRTY  # what the fixture checks is not for this one

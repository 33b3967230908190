"""The plugin under a scheduler that does what CAPE's does, also after failures."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cuckoo_zfsiscsi.cape.quarantine import LOOK_EVERY, OUT_OF_SERVICE, PAUSE_FIRST
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import DeadlineExceededError
from cuckoo_zfsiscsi.lab import cape_database
from cuckoo_zfsiscsi.lab.cape_database import Machine
from cuckoo_zfsiscsi.lab.cape_scheduler import TURN, Analyse, Scheduler
from cuckoo_zfsiscsi.lab.cape_standin import (
    TIMEOUTS,
    CuckooGuestCriticalTimeout,
    CuckooGuestError,
    load_plugin,
)
from tests.cape.service import REPORT, Handler, Service, answer, host, refuse
from tests.clocks import VirtualClock
from tests.waiting import HANG, wait

DAY = 86400.0
CONF = """
[zfsiscsi]
machines = {machines}
interface = br-lab
service = {service}
token_file = {token_file}
[pc1]
label = pc1
platform = windows
ip = 10.99.0.11
arch = x64
tags = win10,x64
snapshot = win10@2
[pc2]
label = pc2
platform = linux
ip = 10.99.0.12
arch = x64
reserved = yes
"""

Make = Callable[..., Scheduler]


def nothing(task: int, machine: Machine) -> None:
    """Analyse nothing."""


@pytest.fixture
def made() -> list[Scheduler]:
    return []


@pytest.fixture
def make(
    service: Service,
    token_file: Path,
    tmp_path: Path,
    clock: VirtualClock,
    made: list[Scheduler],
) -> Iterator[Make]:
    def make_scheduler(
        analyse: Analyse = nothing,
        machines: str = "pc1, pc2",
        memory_dump: bool = False,
        **options: Any,
    ) -> Scheduler:
        path = tmp_path / machines / "zfsiscsi.conf"
        path.parent.mkdir(exist_ok=True)
        path.write_text(CONF.format(service=service.url, token_file=token_file, machines=machines))
        plugin = load_plugin(path, TIMEOUTS, clock, {"memory_dump": memory_dump})
        scheduler = Scheduler(plugin, analyse, clock=clock, **options)
        made.append(scheduler)
        scheduler.start()
        return scheduler

    yield make_scheduler
    service.acts.clear()
    for scheduler in made:
        scheduler.shutdown()
        scheduler.machinery._quarantine.end()  # type: ignore[attr-defined] # multi does not


def row(scheduler: Scheduler, label: str = "pc1") -> Machine | None:
    return scheduler.db.view_machine_by_label(label)


def shown(scheduler: Scheduler, label: str = "pc1") -> tuple[bool, str | None]:
    """Return what CAPE shows of a machine: whether it is locked, and its status."""
    found = row(scheduler, label)
    assert found
    return found.locked, found.status


def stopped(service: Service) -> set[str]:
    """Return the hosts of which a stop was asked for."""
    return {path.split("/")[3] for _, path, _ in service.calls if path.endswith("/stop")}


OURS = (True, "quarantined")
FREE = (False, "poweroff")
IN_USE = (True, "running")


def until(scheduler: Scheduler, true: Callable[[], object], what: str) -> None:
    """Take turns until something is true."""

    def look() -> bool:
        return bool(true()) or (scheduler.turn() and bool(true()))

    scheduler._clock.until(look, what)  # type: ignore[attr-defined]


def run(scheduler: Scheduler, seconds: float = DAY) -> None:
    """Take turns until no task is left, for so many seconds at most."""
    scheduler.run(Deadline(seconds, clock=scheduler._clock))


def tried(scheduler: Scheduler, service: Service, task: int) -> bool:
    """Whether a task has been put back after a start."""
    return bool(service.asked("start")) and scheduler.status(task) == "pending"


def begin(service: Service) -> Callable[[Handler], None]:
    """Play a start that succeeds: the host has a run then. One that is out of service refuses."""

    def act(handler: Handler) -> None:
        asked = service.hosts[handler.path.split("/")[3]]
        if asked["state"] in OUT_OF_SERVICE:
            handler.problem(503, "quarantined", f"{asked['label']} is {asked['state']}")
        elif asked["run"]:
            handler.problem(409, "host busy", f"{asked['label']} has a run already")
        else:
            asked["run"] = True
            handler.reply(200, REPORT)

    return act


def cut(service: Service, seconds: float) -> Callable[[Handler], None]:
    """Play a stop: the run ends, and after so many seconds power is proved off.

    A stop that waits for less is told so; the host is in quarantine until a test heals it.
    """

    def act(handler: Handler) -> None:
        _, path, body = service.calls[-1]
        asked = service.hosts[path.split("/")[3]]
        asked["run"] = False
        if body and body["timeout"] < seconds:
            asked["state"] = "quarantined"
            handler.problem(503, "quarantined", "its power is not yet proved off")
        else:
            asked["state"] = "clean"
            handler.reply(200, asked)

    return act


def test_tasks_reach_the_service_by_their_ids(make: Make, service: Service) -> None:
    seen: list[tuple[int, str]] = []
    scheduler = make(lambda task, machine: seen.append((task, machine.label)))
    tasks = [scheduler.submit(), scheduler.submit("pc2"), scheduler.submit()]
    run(scheduler)
    assert sorted(seen) == [(tasks[0], "pc1"), (tasks[1], "pc2"), (tasks[2], "pc1")]
    asked = {(body["task"], body["image"]) for body in service.asked("start") if body}
    assert asked == {("1", "win10@2"), ("2", None), ("3", "win10@2")}
    assert len(service.asked("stop")) == 3
    assert [machine.locked for machine in scheduler.machinery.machines()] == [False, False]


@pytest.mark.parametrize("is_multi", [False, True])
def test_a_failed_start_costs_minutes_and_not_the_host(
    make: Make, service: Service, clock: VirtualClock, is_multi: bool
) -> None:
    scheduler = make(is_multi=is_multi)
    before = row(scheduler)
    service.acts["start"] = refuse(
        504, "not ready", "pc1 did not become ready in 180 s: no rpc", "look at its screen"
    )
    service.hosts["pc1"].update(state="quarantined", reason="no rpc")
    task = scheduler.submit()
    until(scheduler, lambda: scheduler.db.errors(task), "the failure")
    until(scheduler, lambda: scheduler.status(task) == "pending", "the way back")
    (told,) = scheduler.db.errors(task)
    assert "pc1" in told
    assert "no rpc (fix: look at its screen)" in told
    found = row(scheduler)
    if is_multi:
        assert found is None, "multi has deleted it"
    else:
        assert found
        assert found.locked
        assert found.status == "quarantined"
        assert scheduler.machinery.running_count() == 0, "it counts for no limit of tasks"
    clock.sleep(10 * PAUSE_FIRST)
    scheduler.turn()
    assert len(service.asked("start")) == 1, "it has not healed"

    service.acts.clear()
    service.hosts["pc1"].update(state="clean", reason="")
    run(scheduler)
    assert scheduler.status(task) == "completed"
    again = row(scheduler)
    assert before
    assert again
    assert (again.name, again.ip, again.tags, again.snapshot, again.locked) == (
        before.name, before.ip, before.tags, before.snapshot, False,
    )  # fmt: skip


SEEN = ["its power was off, and the service had not cut it", "its agent did not answer"]
TOLD = f"seen of pc1 in this run, which may explain an empty report: {SEEN[0]}; {SEEN[1]}"


def test_what_the_service_saw_is_told_to_its_task_alone(make: Make, service: Service) -> None:
    def analyse(task: int, machine: Machine) -> None:
        service.hosts["pc1"]["seen"] = SEEN if task == 2 else []

    scheduler = make(analyse)
    tasks = [scheduler.submit() for _ in range(3)]
    run(scheduler)
    assert [scheduler.db.errors(task) for task in tasks] == [[], [TOLD], []]


def test_what_was_seen_is_told_whoever_stops_the_host(make: Make, service: Service) -> None:
    """The host died right after its start, CAPE takes it for dead, and only quarantine stops it."""
    service.acts["start"] = begin(service)

    def analyse(task: int, machine: Machine) -> None:
        dead = len(service.asked("start")) == 1
        service.hosts["pc1"]["seen"] = SEEN if dead else []
        if dead:
            raise CuckooGuestCriticalTimeout("the guest initialization hit the critical timeout")

    scheduler = make(analyse)
    task = scheduler.submit()
    run(scheduler)
    assert scheduler.db.errors(task) == [TOLD]


def test_what_was_seen_is_told_though_power_is_not_proved_off(make: Make, service: Service) -> None:
    scheduler = make()
    service.acts["stop"] = refuse(503, "quarantined", "pc1 is quarantined: power is not proved off")
    service.hosts["pc1"].update(state="quarantined", seen=SEEN)
    task = scheduler.submit()
    run(scheduler)
    assert scheduler.status(task) == "completed"
    assert scheduler.db.errors(task) == [TOLD]
    service.acts.clear()
    scheduler.machinery.stop("pc1")
    assert scheduler.db.errors(task) == [TOLD], "it is told once"


@pytest.mark.parametrize("seen", [None, "text", 7, [], {}])
def test_what_is_no_list_of_sentences_is_not_told(
    make: Make, service: Service, seen: object
) -> None:
    service.hosts["pc1"]["seen"] = seen
    scheduler = make()
    task = scheduler.submit()
    run(scheduler)
    assert scheduler.status(task) == "completed"
    assert scheduler.db.errors(task) == []


@pytest.mark.parametrize(
    ("asked", "memory_dump", "told"),
    [
        ({}, False, []),
        ({"options": "free=yes,notinteractive=1,interactive=10"}, False, []),
        (
            {"memory": True},
            False,
            [
                "pc1: a memory dump is asked for: this machinery takes none "
                "(fix: submit without memory)"
            ],
        ),
        (
            {},
            True,
            [
                "pc1: a memory dump is asked for: this machinery takes none "
                "(fix: memory_dump = no in cuckoo.conf)"
            ],
        ),
        (
            {"options": "free=yes,interactive=1"},
            False,
            [
                "pc1: interactive is asked for: this machinery shows no desktop "
                "(fix: submit without it)"
            ],
        ),
    ],
)
def test_what_a_task_asks_for_in_vain(
    make: Make, asked: dict[str, Any], memory_dump: bool, told: list[str]
) -> None:
    scheduler = make(memory_dump=memory_dump)
    task = scheduler.submit(**asked)
    run(scheduler)
    assert scheduler.status(task) == "completed"
    assert scheduler.db.errors(task) == told


@pytest.mark.parametrize(
    ("view", "told"),
    [
        ({"hosts": [{"label": "pc1", "interface": "br-lab", "resultserver_port": "2042"}]}, ""),
        ({"hosts": []}, ""),
        ({"hosts": [{}]}, ""),
        (
            {"interface": "br-x"},
            "pc1: CAPE records on interface br-lab, and the service's zfsiscsi.conf has br-x for "
            "pc1: the capture may be empty",
        ),
        ({"hosts": [{"label": "pc1", "interface": "vlan20"}]}, "zfsiscsi.conf has vlan20 for pc1"),
        (
            {"hosts": [{"label": "pc1", "resultserver_port": "2043"}]},
            "pc1: CAPE's result server listens on port 2042, and the service's zfsiscsi.conf has "
            "2043 for pc1: a firewall made of that lets no results through",
        ),
    ],
)
def test_what_cape_and_the_service_have_written_down_differently(
    make: Make, service: Service, view: dict[str, Any], told: str
) -> None:
    service.view.update(view)
    scheduler = make()
    task = scheduler.submit()
    run(scheduler)
    assert scheduler.status(task) == "completed"
    errors = scheduler.db.errors(task)
    assert len(errors) == bool(told)
    assert told in "".join(errors)


def test_a_service_that_does_not_tell_what_it_has_written_down(
    make: Make, service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    service.acts["/v1/cape"] = refuse(500, "internal error", "it broke")
    scheduler = make()
    task = scheduler.submit()
    run(scheduler)
    assert scheduler.db.errors(task) == []
    assert "can't be compared: pc1: it broke" in caplog.text


def test_rows_that_are_not_on_record_yet_are_not_deleted(
    make: Make, service: Service, clock: VirtualClock, made: list[Scheduler]
) -> None:
    """CAPE puts them on record when all are checked, which may take longer than a look's period."""

    def answer(handler: Handler) -> None:
        for _ in range(3):
            made[0].machinery._quarantine._look_in_peace()  # type: ignore[attr-defined]
        handler.reply(200, service.hosts["pc2"])

    service.acts["/v1/hosts/pc2"] = answer
    scheduler = make()
    assert ("GET", "/v1/hosts/pc2", None) in service.calls
    clock.sleep(3 * LOOK_EVERY)
    assert scheduler.machinery._quarantine._cases == {}  # type: ignore[attr-defined]


def test_a_healthy_host_that_fails_again_pauses_longer(
    make: Make, service: Service, clock: VirtualClock
) -> None:
    at: list[float] = []

    def start(handler: Handler) -> None:
        at.append(clock.monotonic())
        handler.problem(409, "image", "there is no image win10@2", "zfsiscsi image list")

    scheduler = make()
    service.acts["start"] = start
    scheduler.submit()
    until(scheduler, lambda: len(at) == 3, "three attempts")
    late = LOOK_EVERY + TURN
    assert PAUSE_FIRST <= at[1] - at[0] <= PAUSE_FIRST + late
    assert 2 * PAUSE_FIRST <= at[2] - at[1] <= 2 * PAUSE_FIRST + late
    service.acts.clear()
    run(scheduler)
    assert scheduler.machinery._quarantine._cases == {}  # type: ignore[attr-defined]


@pytest.mark.parametrize("is_multi", [False, True])
def test_agent_that_never_answers_cape(make: Make, service: Service, is_multi: bool) -> None:
    """CAPE takes the machine for dead, and never calls stop()."""
    calls: list[int] = []

    def analyse(task: int, machine: Machine) -> None:
        calls.append(task)
        if len(calls) == 1:
            raise CuckooGuestCriticalTimeout("the guest initialization hit the critical timeout")

    service.acts["start"] = begin(service)
    scheduler = make(analyse, is_multi=is_multi)
    task = scheduler.submit()
    until(scheduler, lambda: service.asked("stop"), "the stop")
    assert len(calls) == 1
    run(scheduler)
    assert scheduler.status(task) == "completed"
    assert len(calls) == 2


def test_power_that_is_not_proved_off(make: Make, service: Service) -> None:
    """CAPE would give the host to the next task."""
    scheduler = make()
    service.acts["stop"] = refuse(503, "quarantined", "pc1 is quarantined: power is not proved off")
    service.hosts["pc1"].update(state="quarantined")
    first = scheduler.submit()
    run(scheduler)
    assert scheduler.status(first) == "completed"
    second = scheduler.submit()
    with pytest.raises(DeadlineExceededError):
        run(scheduler, 10 * PAUSE_FIRST)
    assert len(service.asked("start")) == 1
    service.acts.clear()
    service.hosts["pc1"].update(state="clean")
    run(scheduler)
    assert scheduler.status(second) == "completed"


def test_stuck_start_is_ended_by_stops_from_the_main_thread(make: Make, service: Service) -> None:
    ended = threading.Event()

    def start(handler: Handler) -> None:
        assert ended.wait(HANG)
        handler.problem(409, "cancelled", "pc1: stop was asked for")

    def stop(handler: Handler) -> None:
        ended.set()
        service.acts.pop("start", None)
        handler.reply(200, host("pc1"))

    service.acts.update(start=start, stop=stop)
    scheduler = make(stuck_after=-1.0)  # at once: no time passes while the service is waited for
    task = scheduler.submit()
    scheduler.turn()
    wait(lambda: service.asked("start"), what="no start was asked for")
    scheduler.turn()
    assert ended.is_set(), "the main thread came back from a stop"
    assert service.asked("stop")[0] == {"timeout": 10}, "it stands still meanwhile"
    until(scheduler, lambda: scheduler.status(task) == "completed", "the end of the task")
    assert any("stop was asked for" in error for error in scheduler.db.errors(task))


def test_others_write_to_the_database_during_a_start(make: Make, service: Service) -> None:
    going = threading.Event()

    def start(handler: Handler) -> None:
        assert going.wait(HANG)
        handler.reply(200, REPORT)

    service.acts["start"] = start
    scheduler = make()
    first = scheduler.submit()
    until(scheduler, lambda: service.asked("start"), "the start")
    second = scheduler.submit()  # sqlite3 would give up long before the start
    going.set()
    run(scheduler)
    assert [scheduler.status(task) for task in (first, second)] == ["completed"] * 2


def test_a_locked_database_only_delays_the_return(
    make: Make, service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setattr(cape_database, "LOCKED_AFTER", 0.3)
    scheduler = make()
    service.acts["start"] = answer(200, b"<html>")
    task = scheduler.submit()
    until(scheduler, lambda: tried(scheduler, service, task), "the failure")
    service.acts.clear()
    other = sqlite3.connect(tmp_path / "pc1, pc2" / "cape.db")
    other.execute("INSERT INTO errors VALUES (0, 'a writer that takes its time')")
    scheduler._clock.until(  # type: ignore[attr-defined]
        lambda: "database is locked" in caplog.text, "the database is found locked"
    )
    found = row(scheduler)
    assert found
    assert found.locked
    other.rollback()
    other.close()
    run(scheduler)
    assert scheduler.status(task) == "completed"


def test_cape_starts_beside_a_host_that_can_not_be_stopped(make: Make, service: Service) -> None:
    """All are stopped at the same time; who is not off is not used, and CAPE starts."""
    came: list[str] = []

    def stop(handler: Handler) -> None:
        came.append(handler.path)
        wait(lambda: len(came) >= 2, what="one after the other: the second stop is not asked for")
        label = handler.path.split("/")[3]
        service.hosts[label].update(run=False)
        if label == "pc1":
            service.hosts["pc1"].update(state="quarantined", reason="its power")
            handler.problem(503, "quarantined", "pc1 is quarantined: its power is not proved off")
        else:
            handler.reply(200, service.hosts[label])

    for label in ("pc1", "pc2"):
        service.hosts[label].update(state="running", run=True)
    service.acts["stop"] = stop
    scheduler = make()
    assert len(came) == 2
    assert service.asked("stop") == [{"timeout": 10}] * 2, "CAPE's main thread waits for them"
    locked = {machine.label: machine.locked for machine in scheduler.machinery.machines()}
    assert locked == {"pc1": True, "pc2": False}
    found = row(scheduler)
    assert found
    assert found.status == "quarantined"
    service.hosts["pc1"].update(state="clean", reason="")
    task = scheduler.submit()
    run(scheduler)
    assert scheduler.status(task) == "completed"


def test_maintenance_ends_without_a_restart_of_cape(
    make: Make, service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    service.hosts["pc1"].update(state="maintenance")
    scheduler = make()
    assert "pc1 is not used for now: maintenance\n" in caplog.text
    assert shown(scheduler) == OURS
    scheduler.submit()
    with pytest.raises(DeadlineExceededError):
        run(scheduler, 10 * PAUSE_FIRST)
    service.hosts["pc1"].update(state="clean")
    run(scheduler)


def test_the_service_goes_away_and_comes_back(
    make: Make, service: Service, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    scheduler = make()
    for verb in ("start", "stop", "/v1/hosts"):
        service.acts[verb] = answer(502, b"")
    task = scheduler.submit()
    until(scheduler, lambda: tried(scheduler, service, task), "the failure")
    clock.sleep(10 * PAUSE_FIRST)
    assert caplog.text.count("rows of hosts stay as they are") == 1, "it is said again and again"
    service.acts.clear()
    run(scheduler)
    assert scheduler.status(task) == "completed"


def test_shutdown_stops_reserved_hosts_too(make: Make, service: Service) -> None:
    scheduler = make()
    for label in ("pc1", "pc2"):
        service.hosts[label].update(run=True)
    scheduler.shutdown()
    assert stopped(service) == {"pc1", "pc2"}
    assert service.asked("stop") == [{"timeout": 10}] * 2, "CAPE's main thread waits for them"


def test_shutdown_without_a_service(make: Make, service: Service) -> None:
    scheduler = make()
    service.acts["/v1/hosts"] = answer(500, b"")
    scheduler.shutdown()
    assert not service.asked("stop")


def test_an_analysis_that_breaks_is_not_the_hosts_fault(make: Make, service: Service) -> None:
    def analyse(task: int, machine: Machine) -> None:
        raise RuntimeError("a bug")

    scheduler = make(analyse)
    task = scheduler.submit()
    run(scheduler)
    assert scheduler.status(task) == "failed_analysis"
    assert len(service.asked("stop")) == 1
    found = row(scheduler)
    assert found
    assert not found.locked


def test_a_machine_that_cape_does_not_know(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    make().machinery.delete_machine("pc9")
    assert "no machine pc9" in caplog.text


def test_a_task_that_can_not_be_told(
    make: Make, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log handler that fails must not turn a failed start into something else."""
    scheduler = make()
    service.acts["start"] = refuse(504, "not ready", "pc1 did not become ready")

    def add_error(message: str, task_id: int) -> None:
        raise sqlite3.OperationalError("database is locked")

    monkeypatch.setattr(scheduler.db, "add_error", add_error)
    task = scheduler.submit()
    until(scheduler, lambda: service.asked("start"), "the start")
    until(scheduler, lambda: tried(scheduler, service, task), "the failure")
    service.acts.clear()
    run(scheduler)


# How long a stop may take, and what one costs that is proved late.


def test_a_cut_that_takes_its_time_costs_no_more_than_that(
    make: Make, service: Service, clock: VirtualClock
) -> None:
    service.acts.update(start=begin(service), stop=cut(service, 12.0))
    scheduler = make()
    tasks = [scheduler.submit(), scheduler.submit()]
    began = clock.monotonic()
    run(scheduler, PAUSE_FIRST)
    assert [scheduler.status(task) for task in tasks] == ["completed"] * 2
    assert service.asked("stop") == [{"timeout": 60}] * 2
    assert clock.monotonic() - began < LOOK_EVERY, "nobody had to look after it"


def test_a_proof_that_comes_late_is_waited_for_and_no_longer(
    make: Make, service: Service, clock: VirtualClock
) -> None:
    service.acts.update(start=begin(service), stop=cut(service, 100.0))
    scheduler = make()
    first = scheduler.submit()
    run(scheduler)
    assert scheduler.status(first) == "completed"
    assert shown(scheduler) == OURS
    assert scheduler.machinery.running_count() == 0, "it counts for no limit of tasks"
    clock.sleep(2 * LOOK_EVERY)
    assert shown(scheduler) == OURS, "it is still not proved"
    service.hosts["pc1"].update(state="clean")
    healed = clock.monotonic()
    clock.until(lambda: shown(scheduler) == FREE, "the return")
    assert clock.monotonic() - healed <= LOOK_EVERY


def test_a_failed_start_after_a_late_proof_pauses(
    make: Make, service: Service, clock: VirtualClock
) -> None:
    """Its answer is lost, and the stop that undoes it is not proved: the start did fail."""
    scheduler = make()
    service.acts.update(start=answer(502, b""), stop=refuse(503, "quarantined", "not proved off"))
    task = scheduler.submit()
    until(scheduler, lambda: tried(scheduler, service, task), "the failure")
    failed = clock.monotonic()
    service.acts.clear()
    clock.until(lambda: shown(scheduler) == FREE, "the return")
    assert clock.monotonic() - failed >= PAUSE_FIRST - LOOK_EVERY


def test_a_stop_of_the_main_thread_that_is_late_is_made_good_by_the_tasks_own(
    make: Make, service: Service
) -> None:
    going = threading.Event()
    service.acts.update(start=begin(service), stop=cut(service, 12.0))
    scheduler = make(lambda task, machine: going.wait(HANG), stuck_after=-1.0)
    task = scheduler.submit()
    scheduler.turn()
    wait(lambda: service.hosts["pc1"]["run"], what="no run began")
    scheduler.turn()
    assert service.hosts["pc1"]["state"] == "quarantined", "the main thread did not stop it"
    going.set()
    scheduler._clock.until(  # type: ignore[attr-defined]
        lambda: scheduler.status(task) == "completed", "the end of the task"
    )
    assert service.asked("stop") == [{"timeout": 10}, {"timeout": 60}]
    assert shown(scheduler) == FREE, "all is proved"


# Rows that CAPE unlocks itself.


@pytest.mark.parametrize("error", [CuckooGuestError("no analyzer"), RuntimeError("a bug")])
def test_a_start_on_a_row_that_cape_has_unlocked_is_left_alone(
    make: Make, service: Service, clock: VirtualClock, made: list[Scheduler], error: Exception
) -> None:
    """After a failed analysis CAPE unlocks the row behind release(), which has kept it."""
    seen: list[Any] = []

    def analyse(task: int, machine: Machine) -> None:
        if task == first:
            raise error
        clock.sleep(3 * LOOK_EVERY)
        seen.append((shown(scheduler), service.hosts["pc1"]["run"], len(service.asked("stop"))))

    def stop(handler: Handler) -> None:
        service.hosts["pc1"]["run"] = False
        service.acts.update(start=start, stop=cut(service, 0.0))
        handler.problem(503, "quarantined", "its power is proved off too late for the answer")

    def start(handler: Handler) -> None:
        service.hosts["pc1"]["run"] = True
        for _ in range(3):  # a start takes longer than a look's period
            made[0].machinery._quarantine._look_in_peace()  # type: ignore[attr-defined]
        handler.reply(200, REPORT)

    service.acts.update(start=begin(service), stop=stop)
    scheduler = make(analyse)
    first, second = scheduler.submit(), scheduler.submit()
    run(scheduler)
    assert seen == [(IN_USE, True, 1)], "the run was taken for the one that failed"
    assert scheduler.status(second) == "completed"
    assert shown(scheduler) == FREE


def test_a_row_that_cape_has_unlocked_too_early_is_locked_again(
    make: Make, service: Service, clock: VirtualClock
) -> None:
    def analyse(task: int, machine: Machine) -> None:
        if task == first:
            raise CuckooGuestError("no analyzer")

    service.acts.update(start=begin(service), stop=cut(service, 100.0))
    scheduler = make(analyse)
    first = scheduler.submit()
    run(scheduler)
    assert shown(scheduler) == FREE, "CAPE does not do what it is known for"
    clock.until(lambda: shown(scheduler) == OURS, "the lock")
    second = scheduler.submit("pc1")
    with pytest.raises(DeadlineExceededError):
        run(scheduler, 10 * PAUSE_FIRST)
    assert len(service.asked("start")) == 1
    service.acts["stop"] = cut(service, 0.0)
    service.hosts["pc1"].update(state="clean")
    run(scheduler)
    assert scheduler.status(second) == "completed"


def test_a_run_of_ours_that_a_start_finds_is_stopped(make: Make, service: Service) -> None:
    """The stop was lost, and CAPE unlocked the row: its next start is refused, and nobody stops."""

    def analyse(task: int, machine: Machine) -> None:
        if task == first:
            raise CuckooGuestError("no analyzer")

    def stop(handler: Handler) -> None:
        service.acts["stop"] = cut(service, 0.0)
        handler.reply(502, b"")

    service.acts.update(start=begin(service), stop=stop)
    scheduler = make(analyse)
    first, second = scheduler.submit(), scheduler.submit()
    until(scheduler, lambda: len(service.asked("start")) == 2, "the second start")
    assert service.hosts["pc1"]["run"]
    run(scheduler)
    assert scheduler.status(second) == "completed"
    assert shown(scheduler) == FREE


def test_a_start_waits_for_the_stop_of_what_was_there_before(
    make: Make, service: Service, clock: VirtualClock
) -> None:
    """CAPE took the host for dead and unlocks its row; a look is just stopping what it has."""
    going = threading.Event()
    order: list[str] = []

    def analyse(task: int, machine: Machine) -> None:
        if task == first:
            raise CuckooGuestCriticalTimeout("no agent")
        order.append("analysed")

    def stop(handler: Handler) -> None:
        if going.wait(HANG):
            order.append("stopped")
        cut(service, 0.0)(handler)

    service.acts.update(start=begin(service), stop=stop)
    scheduler = make(analyse)
    first = scheduler.submit()
    until(scheduler, lambda: tried(scheduler, service, first), "the way back")
    with scheduler.db.session.begin():
        scheduler.db.do("UPDATE tasks SET status = 'failed_analysis'")
    second = scheduler.submit()
    clock.until(lambda: service.asked("stop"), "the stop")
    found = row(scheduler)
    assert found
    with scheduler.db.session.begin():
        scheduler.db.unlock_machine(found)
    scheduler.turn()
    name = f"task-{second}"
    wait(
        lambda: name in clock.sleeping() or len(service.asked("start")) > 1,
        what="the start neither waits nor goes on",
    )
    going.set()
    run(scheduler)
    assert order[:2] == ["stopped", "analysed"]
    assert scheduler.status(second) == "completed"
    assert len(service.asked("start")) == 2


# Hosts that go out of service while CAPE runs.


@pytest.mark.parametrize("state", OUT_OF_SERVICE)
@pytest.mark.parametrize("is_multi", [False, True])
def test_a_host_that_goes_out_of_service_is_waited_for(
    make: Make, service: Service, clock: VirtualClock, state: str, is_multi: bool
) -> None:
    """A task that asks for it would fail there, and be done on another host."""
    service.acts.update(start=begin(service), stop=cut(service, 0.0))
    scheduler = make(is_multi=is_multi)
    service.hosts["pc1"].update(state=state, reason="its disk can't be made")
    clock.until(lambda: shown(scheduler) == OURS, "the lock")
    assert scheduler.machinery.running_count() == 0, "it counts for no limit of tasks"
    task = scheduler.submit("pc1")
    with pytest.raises(DeadlineExceededError):
        run(scheduler, 10 * PAUSE_FIRST)
    assert not service.asked("start")
    service.hosts["pc1"].update(state="clean", reason="")
    back = clock.monotonic()
    clock.until(lambda: shown(scheduler) == FREE, "the return")
    assert clock.monotonic() - back <= LOOK_EVERY
    run(scheduler)
    assert scheduler.status(task) == "completed"


def test_a_host_that_goes_out_of_service_in_a_run_is_the_tasks_until_its_end(
    make: Make, service: Service, clock: VirtualClock
) -> None:
    seen: list[object] = []

    def analyse(task: int, machine: Machine) -> None:
        service.hosts["pc1"].update(state="quarantined", reason="a stranger on its disk")
        clock.sleep(3 * LOOK_EVERY)
        seen.append((shown(scheduler), scheduler.machinery.running_count()))

    def stop(handler: Handler) -> None:
        service.hosts["pc1"].update(run=False)
        handler.reply(200, service.hosts["pc1"])

    service.acts.update(start=begin(service), stop=stop)
    scheduler = make(analyse)
    task = scheduler.submit()
    run(scheduler)
    assert scheduler.status(task) == "completed"
    assert seen == [(IN_USE, 1)]
    clock.until(lambda: shown(scheduler) == OURS, "the lock")


# Others on the same service.


def test_two_capes_leave_each_others_runs_alone(make: Make, service: Service) -> None:
    going = threading.Event()
    service.acts.update(start=begin(service), stop=cut(service, 0.0))
    one = make(lambda task, machine: going.wait(HANG), machines="pc1")
    task = one.submit()
    one.turn()
    wait(lambda: service.hosts["pc1"]["run"], what="no run began")
    service.hosts["pc2"].update(state="running", run=True)
    other = make(machines="pc2")
    assert stopped(service) == {"pc2"}, "it stops what its own last life has left"
    service.hosts["pc2"].update(state="running", run=True)
    other.shutdown()
    assert stopped(service) == {"pc2"}
    assert len(service.asked("stop")) == 2
    going.set()
    run(one)
    assert one.status(task) == "completed"
    assert stopped(service) == {"pc1", "pc2"}


def test_a_run_that_somebody_else_has_begun_is_not_stopped(
    make: Make, service: Service, clock: VirtualClock
) -> None:
    service.acts.update(start=begin(service), stop=cut(service, 0.0))
    scheduler = make()
    service.hosts["pc1"].update(state="running", run=True)
    task = scheduler.submit()
    until(scheduler, lambda: tried(scheduler, service, task), "the refusal")
    clock.sleep(10 * PAUSE_FIRST)
    assert not service.asked("stop")
    assert shown(scheduler) == OURS
    service.hosts["pc1"].update(state="clean", run=False)
    run(scheduler)
    assert scheduler.status(task) == "completed"

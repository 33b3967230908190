"""Runs as CAPE makes them, through the plugin's own start and stop, watched from outside."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import DeadlineExceededError, LabError
from cuckoo_zfsiscsi.lab import malware
from cuckoo_zfsiscsi.lab.bring_up import Lab
from cuckoo_zfsiscsi.lab.command import HANG
from cuckoo_zfsiscsi.lab.conf import LABEL, START_TIMEOUT
from cuckoo_zfsiscsi.lab.routes.outside import FORBIDDEN, Outside
from cuckoo_zfsiscsi.lab.routes.place import C2_NAME
from cuckoo_zfsiscsi.lab.routes.traffic import ANSWERS, Seen
from cuckoo_zfsiscsi.lab.watch import Watch

POLL = 0.2
"""Seconds between two looks at the service's progress."""
PREWARM = 2.0 * START_TIMEOUT
"""Seconds within which a host that nobody has started must be up: its first boot may fail."""
NO_BOOT = ("Boot from SAN device 0x80 failed", "Could not boot", "does not boot, next try")
"""What iPXE prints when the disk does not boot."""
TRIES = 6
"""So many such lines are proof enough, in the time in which the clean disk booted."""
PATIENCE = 90.0
"""Seconds for which a sample tries to reach a C2 that is to answer; see malware.TIMEOUT."""
DENIED = 10.0
"""Seconds for which it tries where none is to answer."""
MARGIN = 60.0
"""Seconds for which RPC is awaited in addition when iPXE did not say so."""

Stage = Callable[[str, float], None]


@dataclass(slots=True)
class Run:
    """What one run showed."""

    number: int
    recovery_s: float = 0.0
    """Seconds from RPC silent (the power cut of the run before; the first power-on) to RPC up."""
    start_s: float = 0.0
    """Seconds that CAPE waited in start()."""
    stages: dict[str, float] = field(default_factory=dict)
    generation: int = 0
    prewarmed: bool = False
    clean: bool = False
    detail: str = ""
    """What the look for infections found."""
    seen: Seen | None = None
    """What captures show of the sample's calls; None: it did not call."""


@dataclass(slots=True)
class Reboot:
    """What was seen when the host was reset by its button within a run."""

    same_disk: bool
    generation: int
    seconds: float
    """From RPC silent to RPC up."""
    seen: Seen | None
    """What captures show of the sample's calls after it; None: nobody tells the guest of the way
    out a second time, as with network_via = agent."""


@dataclass(slots=True)
class WithoutReset:
    """What was seen when the infected host was powered up again from the disk as it was."""

    came_up: bool
    watched_s: float
    console: list[str]
    """What the host's console said of it, without repetition."""


def run_once(lab: Lab, watch: Watch, number: int, *, down: float, stage: Stage) -> Run:
    """Start the host as CAPE does and look whether it is clean. It stays on.

    Args:
        lab: that is up.
        watch: of its host.
        number: of this run.
        down: since when RPC has been silent (time.monotonic()); 0 before the first power-on.
        stage: told each stage of the boot when it is reached, and its seconds.

    Raises:
        CuckooMachineError, LabError, DeadlineExceededError: it did not become ready.
    """
    run = Run(number)
    told: set[str] = set()
    if lab.prewarm:
        _await_prewarmed(lab, told, stage)
    began = time.monotonic()
    _start(lab, told, stage)
    run.start_s = time.monotonic() - began
    boot = lab.client.host(LABEL)["last_boot"]
    run.stages, run.generation = dict(boot["stages"]), int(boot["generation"])
    run.prewarmed = bool(boot["prewarmed"])
    if not down:  # the machine notes in wall-clock time when it was switched on
        down = time.monotonic() - (time.time() - lab.machine.powered_on)
    with _telling(lab):
        run.recovery_s = watch.up(Deadline(HANG), after=down) - down
    finding = malware.look(lab.network, lab.address, lab.image)
    run.clean, run.detail = finding.clean, finding.detail
    return run


def stop(lab: Lab, watch: Watch) -> float:
    """Stop the host as CAPE does; return since when RPC is silent (time.monotonic()).

    Raises:
        CuckooMachineError, DeadlineExceededError: it is not off.
    """
    lab.plugin.stop(LABEL)
    with _telling(lab):
        return watch.down(Deadline(HANG))


def call_home(lab: Lab, outside: Outside) -> Seen:
    """Have the sample call its C2 while the run's route is enabled; return what captures show.

    Raises:
        LabError, DeadlineExceededError: it does not run, or a capture can't be read.
    """
    begun = outside.now()
    patience = PATIENCE if outside.route in ANSWERS else DENIED
    malware.call_home(
        lab.network,
        lab.address,
        C2_NAME,
        [str(one) for one in FORBIDDEN.values()],
        patience=patience,
    )
    return outside.seen(begun)


def reboot_in_run(lab: Lab, outside: Outside, watch: Watch, number: int) -> Reboot:
    """Press the reset button while the run's route is enabled; look for the disk of before.

    A sample that reboots the host, as bootkits do, is to find what it has left, and its C2.

    Raises:
        MachineError: the emulated host can't be reset.
        LabError, DeadlineExceededError: it did not come up again.
    """
    malware.leave_keepsake(lab.network, lab.address, number)
    before = int(lab.client.host(LABEL)["generation"])
    lab.machine.reset()
    with _telling(lab):
        down = watch.down(Deadline(HANG))
        up = watch.up(Deadline(PREWARM), after=down)
        _await_agent(watch)
    after = int(lab.client.host(LABEL)["generation"])
    kept = malware.has_keepsake(lab.network, lab.address, number)
    seen = call_home(lab, outside) if lab.network_via == "dhcp" else None
    return Reboot(kept and before == after, after, up - down, seen)


def reboot(lab: Lab, watch: Watch, number: int) -> Run:
    """Press the reset button of the infected host, as anyone may with reset_on = boot; and look.

    Args:
        lab: that is up, its host in a run and infected.
        watch: of its host.
        number: of this run.

    Raises:
        MachineError: the emulated host can't be reset.
        LabError, DeadlineExceededError: it did not come up again.
    """
    before = lab.client.host(LABEL)["generation"]
    lab.machine.reset()
    with _telling(lab):
        down = watch.down(Deadline(HANG))
    for host in _looks(lab, "the boot after the reset button"):
        if host["generation"] != before and host["state"] in ("ready", "running"):
            break
    with _telling(lab):
        up = watch.up(Deadline(HANG), after=down)
    finding = malware.look(lab.network, lab.address, lab.image)
    return Run(
        number,
        recovery_s=up - down,
        stages=dict(host["last_boot"]["stages"]),
        generation=host["generation"],
        clean=finding.clean,
        detail=finding.detail,
    )


def without_reset(lab: Lab, watch: Watch, boot_s: float) -> WithoutReset:
    """Power the infected host off and on within its run, which keeps the disk; watch it.

    Args:
        lab: that is up, its host in a run and infected.
        watch: of its host.
        boot_s: seconds that RPC took to answer from the clean disk.

    Raises:
        MachineError: the emulated host can't be switched.
        DeadlineExceededError: RPC is not silent though it is off.
    """
    lab.machine.off()
    with _telling(lab):
        down = watch.down(Deadline(HANG))
    lab.machine.on()
    began = time.monotonic()
    up, said = False, list[str]()
    while not up and (watched := time.monotonic() - began) < boot_s + MARGIN:
        time.sleep(POLL)
        up = any(state and at > down for at, state in watch.changes())
        said = failed_boots(lab.machine.console.read_text(errors="replace"))
        if len(said) >= TRIES and watched > boot_s:
            break
    return WithoutReset(up, round(time.monotonic() - began, 1), list(dict.fromkeys(said))[:4])


def failed_boots(console: str) -> list[str]:
    """Return the lines in which firmware and iPXE say that the disk does not boot."""
    lines = (line.strip() for line in console.replace("\r", "\n").split("\n"))
    return [line for line in lines if any(sign in line for sign in NO_BOOT)]


def _start(lab: Lab, told: set[str], stage: Stage) -> None:
    """Call the plugin's start(), and tell the stages that the service reports meanwhile."""
    failed: list[BaseException] = []

    def body() -> None:
        try:
            lab.plugin.start(LABEL)
        except BaseException as error:  # noqa: BLE001 - raised again below
            failed.append(error)

    known = _started(lab)
    thread = threading.Thread(target=body, name="cape", daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(POLL)
        _tell(lab, known, told, stage)
    if failed:
        raise failed[0]


def _await_prewarmed(lab: Lab, told: set[str], stage: Stage) -> None:
    """Wait until the idle host stands by, as it would between two tasks of CAPE.

    Raises:
        LabError: it is quarantined.
        DeadlineExceededError: it does not come.
    """
    for host in _looks(lab, "prewarming"):
        if host["state"] == "ready":
            break
        if host["state"] == "booting":
            _tell(lab, 0.0, told, stage)
    _tell(lab, 0.0, told, stage)


def _await_agent(watch: Watch) -> None:
    """Wait until the guest's agent answers again: RPC does before it."""
    deadline = Deadline(HANG)
    while not watch.agent().ok:
        deadline.sleep(POLL, "the guest's agent, after a reboot")


def _looks(lab: Lab, what: str) -> Iterator[dict[str, Any]]:
    """Give what the service says of the host, again and again, as long as the caller looks on.

    Raises:
        LabError: it is quarantined.
        DeadlineExceededError: the caller has looked on for too long.
    """
    deadline = Deadline(PREWARM)
    while True:
        host = lab.client.host(LABEL)
        if host["state"] == "quarantined":
            raise LabError(f"{LABEL} is quarantined: {host['reason']}; {lab.seen()}")
        yield host
        with _telling(lab):
            deadline.sleep(POLL, f"{what}, {host['state']}")


@contextmanager
def _telling(lab: Lab) -> Iterator[None]:
    """Have a wait in vain tell what there was to see instead."""
    try:
        yield
    except DeadlineExceededError as error:
        raise DeadlineExceededError(f"{error.what}; {lab.seen()}", fix=error.fix) from error


def _started(lab: Lab) -> float:
    """When the last boot began; one that is under way or standing by counts as the next."""
    host = lab.client.host(LABEL)
    if host["state"] in ("booting", "ready") or not host["last_boot"]:
        return 0.0
    return float(host["last_boot"]["started"])


def _tell(lab: Lab, known: float, told: set[str], stage: Stage) -> None:
    boot: dict[str, Any] = lab.client.host(LABEL)["last_boot"] or {}
    if boot and boot["started"] > known:
        for name, seconds in boot["stages"].items():
            if name not in told:
                told.add(name)
                stage(name, seconds)

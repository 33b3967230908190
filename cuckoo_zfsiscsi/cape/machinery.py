"""CAPE's machinery for physical hosts: asks the service, and decides nothing about hosts itself."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

# CAPE's own modules: they exist in CAPE's process only, and have no types.
from lib.cuckoo.common.abstracts import Machinery  # type: ignore[import-not-found]
from lib.cuckoo.common.config import Config  # type: ignore[import-not-found]
from lib.cuckoo.common.exceptions import (  # type: ignore[import-not-found]
    CuckooCriticalError,
    CuckooMachineError,
)

from cuckoo_zfsiscsi.cape.analysts import Analysts
from cuckoo_zfsiscsi.cape.client import MARGIN, Client, Json, ServiceError
from cuckoo_zfsiscsi.cape.options import Options
from cuckoo_zfsiscsi.cape.quarantine import OUT_OF_SERVICE, Quarantine, why_unused
from cuckoo_zfsiscsi.cape.rows import Owner, make_ours, owner
from cuckoo_zfsiscsi.cape.task import current_task, tell_analyst
from cuckoo_zfsiscsi.cape.transport import CONNECT_TIMEOUT
from cuckoo_zfsiscsi.clock import SYSTEM, Clock
from cuckoo_zfsiscsi.text import shown

SERVICE_PATIENCE = 30.0
"""Seconds that CAPE waits at its start for the service: after a reboot both start at once."""
SERVICE_PAUSE = 1.0
"""Seconds between two tries."""
STOP_MOST = 15.0
"""Seconds within which stop() answers CAPE's main thread, which stands still meanwhile."""
STOP_CONNECT, STOP_MARGIN = 2.0, 3.0
"""Seconds of these for the connection, and for an answer that comes late."""
CONFLICT = 409
"""HTTP status of a start that the host's state forbids: if it has a run, that is another's."""

log = logging.getLogger(__name__)


class ZfsIscsi(Machinery):  # type: ignore[misc]
    """Hosts that boot from iSCSI disks which the service resets before each run.

    Args:
        clock: that waits go by; CAPE gives none.
    """

    module_name = "zfsiscsi"
    LABEL = "label"

    RUNNING = "running"
    POWEROFF = "poweroff"
    ABORTED = "aborted"
    ERROR = "error"

    def __init__(self, clock: Clock = SYSTEM) -> None:
        super().__init__()
        self._clock = clock
        self._quarantine = Quarantine(self.db, self._client, self._stop_for_sure, clock)
        self._analysts = Analysts()

    def start(self, label: str) -> None:
        """Return when the host is clean and ready, its agent too. stop() ends it early.

        CAPE has a transaction open meanwhile: nothing is asked of the database here.

        Raises:
            CuckooMachineError: it is not; the service has cut its power.
        """
        task, is_ours = current_task(), True
        try:
            with _failing_as(f"start of {label}"):
                self._quarantine.take(label)
                client, options = self._client(), self._our_options()
                timeout = self._start_timeout(options)
                try:
                    report = client.start(label, timeout, task, options.image(label))
                except ServiceError as error:
                    if not error.status:  # the answer was lost: the host may be on for nobody
                        self._stop_for_sure(label)
                    is_ours = error.status != CONFLICT
                    raise
                _log_boot(label, report)
        except CuckooMachineError as error:
            self._quarantine.failed(label, str(error), is_ours=is_ours)
            tell_analyst(task, f"{error}. CAPE tries again, on this host or another")
            raise
        self._quarantine.forget(label)
        self._analysts.run_began(label, task, memory_dump=bool(Config().cuckoo.memory_dump))

    def stop(self, label: str) -> None:
        """Return when the host's power is proved off. May be called again, from any thread.

        A task's own thread waits for it for stop_timeout; CAPE's main thread for STOP_MOST seconds
        at most, whatever start() is doing.

        The run's task is told what the service saw of the host that may explain an empty report.

        Raises:
            CuckooMachineError: it is not proved; the service lets no run begin on it until it is.
        """
        try:
            with _failing_as(f"stop of {label}"):
                try:
                    host = self._ask_to_stop(label)
                except ServiceError as error:
                    if error.status and current_task():  # the main thread has no time for it
                        self._tell_of_failed_stop(label)
                    raise
        except CuckooMachineError as error:
            self._quarantine.unproved(label, str(error))
            raise
        self._quarantine.proved(label)
        self._analysts.run_ended(label, host)

    def release(self, machine: Any) -> Any:  # noqa: ANN401 - a row of CAPE's
        """Unlock the host's row, unless its power is not proved off: then it becomes ours."""
        if not self._quarantine.has(machine.label):
            return super().release(machine)
        row = self.db.view_machine_by_label(machine.label)  # what CAPE hands over may be a copy
        if row is not None:
            make_ours(self.db, row)
        return machine

    def delete_machine(self, name: str) -> None:
        """Keep the row, as ours, until the host has healed: CAPE would delete it for good.

        CAPE calls this when start() has failed, or its own wait for the agent. After the latter
        it does not stop the host. Quarantine does: here CAPE has locked its database.
        """
        machine = self.db.view_machine(name)
        if machine is None:
            log.warning("there is no machine %s", name)
            return
        self._quarantine.failed(machine.label, "CAPE found it dead")
        make_ours(self.db, machine)

    def running_count(self) -> int:
        """Return how many hosts have a task: those in quarantine count for no limit."""
        locked = self.db.list_machines(locked=True, include_reserved=True)
        return sum(owner(row) is Owner.CAPE for row in locked)

    def shutdown(self) -> None:
        """Stop every host of ours that has a run, reserved ones too, all at the same time."""
        self._quarantine.end()
        try:
            known = {str(host["label"]): host for host in self._client().hosts()}
        except ServiceError as error:
            log.error("the hosts can't be stopped: %s", error)
            return
        self._stop_all(known, self.machines())

    def _list(self) -> list[str]:
        """Return the labels of the hosts that the service has.

        Raises:
            CuckooMachineError: the service does not tell.
        """
        with _failing_as("list of hosts"):
            return [str(host["label"]) for host in self._client().hosts()]

    def _status(self, label: str) -> str:
        """Return RUNNING when a run has the host, for CAPE to stop it; else POWEROFF or ABORTED.

        A host that stands by booted has no run: CAPE must not stop it. Neither must it stop one
        that the service is bringing down, or has taken out of service, for what it can't prove.

        Raises:
            CuckooMachineError: the service does not tell.
        """
        with _failing_as(f"status of {label}"):
            host = self._client().host(label)
            if host["state"] in OUT_OF_SERVICE:
                return self.ABORTED
            return self.RUNNING if host["run"] else self.POWEROFF

    def _initialize_check(self) -> None:
        """Check that service and configuration agree; then stop those of our hosts that have a run.

        They are stopped all at the same time. One that can't be used now is not asked for, but its
        row is ours until it can. Hosts that only the service knows are another CAPE's.

        Raises:
            CuckooCriticalError: CAPE can't work like this; the text says what to do.
            CuckooMachineError: the service broke off meanwhile.
        """
        try:
            known = self._await_hosts()
            options = self._our_options()
        except ServiceError as error:
            raise CuckooCriticalError(f"machinery zfsiscsi: {error}") from None
        machines = list(self.machines())
        missing = [str(one.label) for one in machines if str(one.label) not in known]
        if missing:
            raise CuckooCriticalError(
                f"machinery zfsiscsi: the service at {options.service} has no host "
                f"{', '.join(missing)} (fix: put the same zfsiscsi.conf on both servers, then "
                "systemctl restart zfsiscsi)"
            )
        if self._start_timeout(options) < options.start_timeout:
            log.warning(
                "a start gets %.0f s only, not start_timeout = %.0f: CAPE gives up on the task "
                "after vm_state + stuck_seconds of cuckoo.conf, which are for start and stop "
                "(fix: zfsiscsi cape install --apply raises vm_state)",
                self._start_timeout(options),
                options.start_timeout,
            )
        self._analysts.compare(machines, self._client())
        unstopped = self._stop_all(known, machines)
        self._quarantine.watch(machines)
        for machine in machines:
            host = known[str(machine.label)]
            if host["state"] in OUT_OF_SERVICE or machine.label in unstopped:
                reason = unstopped.get(machine.label) or why_unused(host)
                log.warning("%s is not used for now: %s", machine.label, reason)
                make_ours(self.db, machine)
        super()._initialize_check()

    def _await_hosts(self) -> dict[str, Json]:
        """Return the hosts that the service has, by label; wait for it if it does not listen yet.

        Raises:
            ServiceError: it still does not, or refuses.
        """
        client = self._client()
        end = self._clock.monotonic() + SERVICE_PATIENCE
        while True:
            try:
                return {str(host["label"]): host for host in client.hosts()}
            except ServiceError as error:
                if not error.unreachable or self._clock.monotonic() > end:
                    raise
                log.warning("waiting for the service: %s", error)
            self._clock.sleep(SERVICE_PAUSE)

    def _ask_to_stop(self, label: str) -> Json:
        """Have the service stop a host; return what it says of it then. Raises ServiceError."""
        timeout = self._our_options().stop_timeout
        if current_task():
            return self._client().stop(label, timeout)
        most = STOP_MOST - STOP_CONNECT - STOP_MARGIN
        client = self._client(connect_timeout=STOP_CONNECT, margin=STOP_MARGIN)
        return client.stop(label, min(timeout, most))

    def _tell_of_failed_stop(self, label: str) -> None:
        """Tell what was seen in the run: mains and power device may have failed together."""
        client = self._client(connect_timeout=STOP_CONNECT, read_timeout=STOP_MARGIN)
        try:
            host = client.host(label)
        except ServiceError as error:
            log.warning("%s", error)
        else:
            self._analysts.run_ended(label, host)

    def _stop_all(self, known: dict[str, Json], machines: Iterable[Any]) -> dict[str, str]:
        """Stop the hosts that have a run, all at the same time; return why some are not off.

        Args:
            known: hosts as the service has them, by label.
            machines: rows of ours.
        """
        labels = [str(machine.label) for machine in machines]
        wanted = [label for label in labels if label in known and known[label]["run"]]
        if not wanted:
            return {}
        with ThreadPoolExecutor(len(wanted), thread_name_prefix="stop") as pool:
            reasons = dict(zip(wanted, pool.map(self._stop_for_sure, wanted), strict=True))
        return {label: reason for label, reason in reasons.items() if reason}

    def _stop_for_sure(self, label: str) -> str:
        """Stop a host; return why it is not proved off, or nothing."""
        try:
            self.stop(label)
        except CuckooMachineError as error:
            log.warning("%s", error)
            return str(error)
        return ""

    def _our_options(self) -> Options:
        return Options(self.options, self.module_name)

    def _client(self, **timeouts: float) -> Client:
        options = self._our_options()
        return Client(options.service, options.token_file, ca_file=options.ca_file, **timeouts)

    @staticmethod
    def _start_timeout(options: Options) -> float:
        """Return seconds: what CAPE grants to start and stop together, less a stop and margins.

        A stop that came after that would find CAPE's main thread stopping the host, too.
        """
        timeouts: Any = Config().timeouts
        granted = float(timeouts.get("vm_state", 100)) + float(timeouts.get("stuck_seconds", 100))
        stop = CONNECT_TIMEOUT + options.stop_timeout + MARGIN
        return max(1.0, min(options.start_timeout, granted - stop - MARGIN))


@contextmanager
def _failing_as(what: str) -> Iterator[None]:
    """Let CuckooMachineError out and nothing else: CAPE handles no other error well."""
    try:
        yield
    except ServiceError as error:
        fix = f" (fix: {error.fix})" if error.fix else ""
        raise CuckooMachineError(f"{what}: {error.detail}{fix}") from None
    except Exception as error:
        log.exception("%s", what)
        raise CuckooMachineError(f"{what}: {type(error).__name__}: {error}") from None


def _log_boot(label: str, report: Json) -> None:
    wanted = ("generation", "image", "prewarmed", "stages")
    log.info("%s is ready: %s", label, ", ".join(f"{key} {report.get(key)}" for key in wanted))
    if warning := report.get("warning"):
        log.warning("%s", shown(str(warning)))

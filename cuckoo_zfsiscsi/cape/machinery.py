"""CAPE's machinery for physical hosts: asks the service, and decides nothing about hosts itself."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# CAPE's own modules: they exist in CAPE's process only, and have no types.
from lib.cuckoo.common.abstracts import Machinery  # type: ignore[import-not-found]
from lib.cuckoo.common.config import Config  # type: ignore[import-not-found]
from lib.cuckoo.common.exceptions import (  # type: ignore[import-not-found]
    CuckooCriticalError,
    CuckooMachineError,
)

from cuckoo_zfsiscsi.cape.client import MARGIN, Client, Json, ServiceError
from cuckoo_zfsiscsi.cape.options import Options

SERVICE_PATIENCE = 30.0
"""Seconds that CAPE waits at its start for the service: after a reboot both start at once."""
SERVICE_PAUSE = 1.0
OUT_OF_SERVICE = ("quarantined", "maintenance")
"""Host states in which the service has made sure, or been told, that nobody needs to stop it."""

log = logging.getLogger(__name__)


class ZfsIscsi(Machinery):  # type: ignore[misc]
    """Hosts that boot from iSCSI disks which the service resets before each run."""

    module_name = "zfsiscsi"
    LABEL = "label"

    RUNNING = "running"
    POWEROFF = "poweroff"
    ABORTED = "aborted"
    ERROR = "error"

    def start(self, label: str) -> None:
        """Return when the host is clean and ready, its agent too.

        Raises:
            CuckooMachineError: it is not; the service has cut its power.
        """
        with _failing_as(f"start of {label}"):
            client, options = self._client(), self._our_options()
            timeout = self._start_timeout(options)
            try:
                report = client.start(label, timeout, image=options.image(label))
            except ServiceError as error:
                if not error.status:  # the answer was lost: the host may be on for nobody
                    self._stop_for_sure(client, label, options.stop_timeout)
                raise
            _log_boot(label, report)

    def stop(self, label: str) -> None:
        """Return when the host's power is proved off. May be called again, from any thread.

        Raises:
            CuckooMachineError: it is not proved; the service lets no run begin on it until it is.
        """
        with _failing_as(f"stop of {label}"):
            self._client().stop(label, self._our_options().stop_timeout)

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
        """Check that service and configuration agree; then stop what a run still has.

        Raises:
            CuckooCriticalError: CAPE can't work like this; the text says what to do.
            CuckooMachineError: the service broke off meanwhile.
        """
        try:
            known = self._await_hosts()
            options = self._our_options()
        except ServiceError as error:
            raise CuckooCriticalError(f"machinery zfsiscsi: {error}") from None
        missing = [str(one.label) for one in self.machines() if str(one.label) not in known]
        if missing:
            raise CuckooCriticalError(
                f"machinery zfsiscsi: the service at {options.service} has no host "
                f"{', '.join(missing)} (fix: put the same zfsiscsi.conf on both servers, then "
                "systemctl restart zfsiscsi)"
            )
        if self._start_timeout(options) < options.start_timeout:
            log.warning(
                "a start gets %.0f s only, not start_timeout = %.0f: CAPE gives up on the task "
                "after vm_state + stuck_seconds of cuckoo.conf, which are for start and stop",
                self._start_timeout(options),
                options.start_timeout,
            )
        super()._initialize_check()

    def _await_hosts(self) -> set[str]:
        """Return the labels that the service has; wait for it if it does not listen yet.

        Raises:
            ServiceError: it still does not, or refuses.
        """
        client = self._client()
        end = time.monotonic() + SERVICE_PATIENCE
        while True:
            try:
                return {str(host["label"]) for host in client.hosts()}
            except ServiceError as error:
                if not error.unreachable or time.monotonic() > end:
                    raise
                log.warning("waiting for the service: %s", error)
            time.sleep(SERVICE_PAUSE)

    @staticmethod
    def _stop_for_sure(client: Client, label: str, timeout: float) -> None:
        try:
            client.stop(label, timeout)
        except ServiceError as error:
            log.warning("%s: stop after a failed start: %s", label, error)

    def _our_options(self) -> Options:
        return Options(self.options, self.module_name)

    def _client(self) -> Client:
        options = self._our_options()
        return Client(options.service, options.token_file)

    @staticmethod
    def _start_timeout(options: Options) -> float:
        """Return seconds: what CAPE grants to start and stop together, less the stop."""
        timeouts: Any = Config().timeouts
        granted = float(timeouts.get("vm_state", 100)) + float(timeouts.get("stuck_seconds", 100))
        return max(1.0, min(options.start_timeout, granted - options.stop_timeout - 2 * MARGIN))


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

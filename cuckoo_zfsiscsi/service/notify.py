"""Tells systemd how the service is doing: sd_notify(3), by the standard library alone."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import MutableMapping

log = logging.getLogger(__name__)

SEND_TIMEOUT = 1.0
"""Seconds: a full queue at systemd must not hold up the service."""


class Notifier:
    """Sends states to systemd, or nothing where systemd did not start us.

    Args:
        environ: of the process. NOTIFY_SOCKET is taken out of it: children have nothing to say.
    """

    def __init__(self, environ: MutableMapping[str, str] | None = None) -> None:
        environ = os.environ if environ is None else environ
        path = environ.pop("NOTIFY_SOCKET", "")
        # The other kind of address, vsock:, is for virtual machines (systemd 254).
        self._address = path.replace("@", "\0", 1) if path[:1] in ("/", "@") else ""
        for name in ("WATCHDOG_USEC", "WATCHDOG_PID"):  # a child would think that it is meant
            environ.pop(name, None)

    def ready(self, status: str) -> None:
        """Say that the service serves."""
        self._send("READY=1", f"STATUS={status}")

    def alive(self) -> None:
        """Put off the watchdog, WatchdogSec of the unit."""
        self._send("WATCHDOG=1")

    def stopping(self, seconds: float) -> None:
        """Say that the service ends, and how long that may take, whatever the unit says.

        Args:
            seconds: until systemd may kill it. TimeoutStopSec is a constant of the unit, but how
                long hosts take to be cut is in zfsiscsi.conf.
        """
        self._send("STOPPING=1", f"EXTEND_TIMEOUT_USEC={round(seconds * 1e6)}")

    def _send(self, *states: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as to:
                to.settimeout(SEND_TIMEOUT)
                to.sendto("\n".join(states).encode(), self._address)
        except OSError as error:  # systemd then thinks that we are dead, which is for it to say
            log.warning("systemd can't be told %s: %s", states[0], error)

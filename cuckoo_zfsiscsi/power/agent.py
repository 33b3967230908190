"""A soft shutdown by CAPE's agent: a courtesy before the cut, never trusted.

URL: agent?wait=10 (the host's own ip and agent_port), or agent://ADDRESS:PORT. It runs as whoever
runs the agent, and malware may have replaced it.
"""

from __future__ import annotations

import http.client
import socket
from typing import TYPE_CHECKING, cast
from urllib.parse import urlencode

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import PowerError
from cuckoo_zfsiscsi.power import Can, PowerState
from cuckoo_zfsiscsi.power.options import check_options
from cuckoo_zfsiscsi.readiness.stream import GuestError, GuestStream

if TYPE_CHECKING:
    from pydantic import SecretStr

    from cuckoo_zfsiscsi.config import PowerUrl

NEEDS_ADDRESS = False
FROM_HOST = {"ip": "ip", "port": "agent_port", "platform": "platform"}
COMMANDS = {"windows": "shutdown /s /f /t 0", "linux": "poweroff"}
LARGEST = 64 * 1024
"""Bytes of an answer."""
WAIT = (r"[1-9]\d?", "seconds that the guest gets, 1 to 99")
OPTIONS = {
    "wait": WAIT,
    "ip": (r".*", "the host's address"),
    "port": (r"\d+", "the agent's port"),
    "platform": (r"windows|linux", "the host's platform"),
}


def connect(url: PowerUrl, secret: SecretStr | None) -> Agent:  # noqa: ARG001 - it has none
    """Return the driver of one guest; nothing is sent yet.

    Raises:
        ConfigError: the URL can't be used.
    """
    check_options(url, OPTIONS)
    return Agent(url)


class Agent:
    """One guest."""

    def __init__(self, url: PowerUrl) -> None:
        self._host = url.host or url.options["ip"]
        self._port = url.port or int(url.options.get("port", "8000"))
        self._command = COMMANDS[url.options.get("platform", "windows")]
        self.peer = f"agent://{self._host}:{self._port}"
        self.can = Can(
            switch=frozenset({PowerState.OFF}),
            tell=frozenset(),
            courtesy=float(url.options.get("wait", "10")),
        )

    def request(self, state: PowerState, *, deadline: Deadline) -> None:
        """Ask the guest to shut down, as Driver has it."""
        what = f"{self.peer}: shutdown"
        if state is PowerState.ON:
            raise PowerError(f"{self.peer}: a guest can't switch its host on")
        form = urlencode({"command": self._command, "async": "1", "shell": "1"})
        head = f"POST /execute HTTP/1.1\r\nHost: agent\r\nContent-Length: {len(form)}\r\n"
        head += "Content-Type: application/x-www-form-urlencoded\r\nConnection: close\r\n\r\n"
        try:
            with GuestStream(self._host, self._port, limit=LARGEST, deadline=deadline) as stream:
                stream.sendall((head + form).encode())
                answer = http.client.HTTPResponse(cast(socket.socket, stream), method="POST")
                answer.begin()
        except (GuestError, http.client.HTTPException) as error:
            raise PowerError(f"{what}: {error}") from None
        if answer.status != http.client.OK:
            raise PowerError(f"{what}: HTTP {answer.status}")

    def query(self, *, deadline: Deadline) -> PowerState:
        """Fail: a guest's word counts for nothing. As Driver has it."""
        deadline.check(self.peer)
        raise PowerError(f"{self.peer}: a guest tells no state")

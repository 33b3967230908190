"""Client of the service's control API, for the machinery plugin and for the command line."""

from __future__ import annotations

from urllib.parse import quote

from cuckoo_zfsiscsi.cape.transport import (
    CONNECT_TIMEOUT,
    MARGIN,
    READ_TIMEOUT,
    Json,
    ServiceError,
    Transport,
)

__all__ = ["MARGIN", "Client", "Json", "ServiceError"]


class Client:
    """The verbs of the service. Safe from any thread. Every one raises ServiceError.

    Args:
        service: http://ADDRESS:PORT, https://..., or unix:///PATH of a socket.
        token_file: file with the bearer token; None only for a unix socket.
        connect_timeout: seconds.
        read_timeout: seconds, for what the service answers at once.
    """

    def __init__(
        self,
        service: str,
        token_file: str | None = None,
        *,
        connect_timeout: float = CONNECT_TIMEOUT,
        read_timeout: float = READ_TIMEOUT,
    ) -> None:
        self.service = service
        self._transport = Transport(
            service, token_file, connect_timeout=connect_timeout, read_timeout=read_timeout
        )

    def hosts(self) -> list[Json]:
        """Return every host: label, state, since, reason, image, generation, run, last_boot."""
        answer = self._transport.ask("GET", "/v1/hosts")
        if not isinstance(answer, list) or not all(isinstance(host, dict) for host in answer):
            raise self._transport.strange("it sent no list of hosts")
        return answer

    def host(self, label: str) -> Json:
        """Return one host, as hosts() has it."""
        return self._ask_host("GET", label)

    def start(
        self, label: str, timeout: float, task: str | None = None, image: str | None = None
    ) -> Json:
        """Make the host ready for a run and wait for it; return the boot report.

        Args:
            label: of the host.
            timeout: seconds; the service gives up by then and says why.
            task: what the run is called in the service's records.
            image: name or name@version; None for the host's own.
        """
        body = {"timeout": timeout, "task": task, "image": image}
        return self._ask_host("POST", label, "start", body, wait=timeout)

    def stop(self, label: str, timeout: float) -> Json:
        """End the run: the host's power is proved off when this returns."""
        return self._ask_host("POST", label, "stop", {"timeout": timeout}, wait=timeout)

    def reset(self, label: str) -> Json:
        """Ask for a clean disk while no run is on."""
        return self._ask_host("POST", label, "reset", {})

    def maintenance(self, label: str, on: bool) -> Json:
        """Take the host out of the service's hands, or give it back."""
        return self._ask_host("POST", label, "maintenance", {"on": on})

    def power(self, label: str, action: str, timeout: float = 60.0) -> Json:
        """Switch the power of the host on or off, or ask for its status.

        Args:
            label: of the host.
            action: "on", "off" or "status".
            timeout: seconds that the service may need to prove it.
        """
        return self._ask_host("POST", label, "power", {"action": action}, wait=timeout)

    def _ask_host(
        self, method: str, label: str, verb: str = "", body: Json | None = None, wait: float = 0.0
    ) -> Json:
        path = f"/v1/hosts/{quote(label, safe='')}" + (f"/{verb}" if verb else "")
        answer = self._transport.ask(method, path, body, label, wait)
        if not isinstance(answer, dict):
            raise self._transport.strange("it sent no object", label)
        return answer

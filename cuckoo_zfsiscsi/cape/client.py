"""Client of the service's control API, for the machinery plugin and for the command line."""

from __future__ import annotations

from urllib.parse import quote, urlencode

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
        ca_file: file with the certificates to trust, for https; None: the public authorities'.
        connect_timeout: seconds.
        read_timeout: seconds, for what the service answers at once.
        margin: seconds beyond the timeout that the service was asked to keep, for it to say so;
            MARGIN when None.
    """

    def __init__(
        self,
        service: str,
        token_file: str | None = None,
        *,
        ca_file: str | None = None,
        connect_timeout: float = CONNECT_TIMEOUT,
        read_timeout: float = READ_TIMEOUT,
        margin: float | None = None,
    ) -> None:
        self.service = service
        self._transport = Transport(
            service,
            token_file,
            ca_file=ca_file,
            connect_timeout=connect_timeout,
            read_timeout=read_timeout,
            margin=margin,
        )

    def hosts(self) -> list[Json]:
        """Return every host: label, state, reason, image, generation, run, start_error, ..."""
        answer = self._transport.ask("GET", "/v1/hosts")
        if not isinstance(answer, list) or not all(isinstance(host, dict) for host in answer):
            raise self._transport.strange("it sent no list of hosts")
        return answer

    def host(self, label: str) -> Json:
        """Return one host, as hosts() has it."""
        return self._ask_host("GET", label)

    def cape(self) -> Json:
        """Return what CAPE must know of the hosts, see service.cape_view."""
        answer = self._transport.ask("GET", "/v1/cape")
        if not isinstance(answer, dict) or not isinstance(answer.get("hosts"), list):
            raise self._transport.strange("it sent no view for CAPE")
        return answer

    def networks(self) -> list[Json]:
        """Return every network: network, hosts, state (of their isolation), why."""
        answer = self._transport.ask("GET", "/v1/networks")
        if not isinstance(answer, list) or not all(isinstance(one, dict) for one in answer):
            raise self._transport.strange("it sent no list of networks")
        return answer

    def prove_isolation(self, network: str, hosts: list[str], timeout: float) -> list[Json]:
        """Have hosts that run try to reach each other; return source, target, reached, at."""
        path = f"/v1/networks/{quote(network, safe='')}/isolation"
        answer = self._transport.ask("POST", path, {"hosts": hosts}, wait=timeout)
        if not isinstance(answer, list):
            raise self._transport.strange("it sent no list of attempts")
        return answer

    def plugin(self) -> Json:
        """Return what the service offers of this package: name, version, sha256, url."""
        answer = self._transport.ask("GET", "/plugin/")
        wanted = ("name", "version", "sha256", "url")
        if not isinstance(answer, dict) or not all(isinstance(answer.get(k), str) for k in wanted):
            raise self._transport.strange("it sent no plugin")
        return answer

    def fetch_plugin(self, wheel: str) -> bytes:
        """Return the wheel of this name."""
        return self._transport.fetch(f"/plugin/{quote(wheel, safe='')}")

    def runs(
        self, *, task: str | None = None, host: str | None = None, limit: int = 50
    ) -> list[Json]:
        """Return past runs, the newest first: host, generation, task, began, ended, evidence.

        Args:
            task: of this task alone.
            host: of this host alone.
            limit: how many.
        """
        return self._list("/v1/runs", "runs", task=task, host=host, limit=limit)

    def history(
        self, *, host: str | None = None, kind: str | None = None, limit: int = 50
    ) -> list[Json]:
        """Return events, the newest first: at, host, kind, ok, what, seconds, stages.

        Args:
            host: of this host alone.
            kind: of this kind alone: boot, reset, power, failure or healed.
            limit: how many.
        """
        return self._list("/v1/history", "events", host=host, kind=kind, limit=limit)

    def boots(self, label: str, *, limit: int = 20) -> list[Json]:
        """Return the last boots of a host, the newest first: started, stages, ready, stalled.

        Args:
            label: of the host.
            limit: how many.
        """
        path = f"/v1/hosts/{quote(label, safe='')}/boots"
        return self._list(path, "boots", label, limit=limit)

    def _list(
        self, path: str, what: str, label: str = "", /, **asked: str | int | None
    ) -> list[Json]:
        query = urlencode({key: value for key, value in asked.items() if value is not None})
        answer = self._transport.ask("GET", f"{path}?{query}")
        if not isinstance(answer, list):
            raise self._transport.strange(f"it sent no list of {what}", label)
        return answer

    def start(
        self,
        label: str,
        timeout: float,
        task: str | None = None,
        image: str | None = None,
        *,
        wait: bool = True,
    ) -> Json:
        """Make the host ready for a run; wait for it and return the boot report.

        Args:
            label: of the host.
            timeout: seconds; the service gives up by then and says why.
            task: what the run is called in the service's records.
            image: name or name@version; None for the host's own.
            wait: False returns the host as host() has it, at once. Then host() tells: `run` is
                true until the start has failed, and `start_error` says why; `state` becomes
                "running".
        """
        body: Json = {"timeout": timeout, "task": task, "image": image}
        if not wait:
            return self._ask_host("POST", label, "start", {**body, "wait": False})
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

    def edit(
        self, label: str, image: str, installer: str | None = None, medium: str | None = None
    ) -> Json:
        """Take the host out of service and boot it from the draft of an image.

        Args:
            label: of the host.
            image: its name.
            installer: URL of an iPXE script that goes on while the draft does not boot.
            medium: of Windows, to be used in its place: what `zfsiscsi image install` made ready.
        """
        body = {"image": image, "installer": installer, "medium": medium}
        return self._ask_host("POST", label, "edit", body, wait=30.0)

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

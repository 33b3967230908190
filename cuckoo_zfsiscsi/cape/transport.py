"""One request to the service: token, timeouts, and every failure as one ServiceError."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import requests
from urllib3.exceptions import HTTPError, ReadTimeoutError

from cuckoo_zfsiscsi.cape import trust
from cuckoo_zfsiscsi.cape.unixsocket import UnixAdapter
from cuckoo_zfsiscsi.errors import ZfsIscsiError
from cuckoo_zfsiscsi.text import shown

CONNECT_TIMEOUT = 5.0
"""Seconds until the service must have accepted a connection."""
READ_TIMEOUT = 30.0
"""Seconds until the service must have answered what it answers at once."""
MARGIN = 10.0
"""Seconds that the service has beyond the timeout that it was asked to keep, to say so itself."""
MAX_ANSWER = 4 << 20
"""Bytes: more than any answer of the service, for thousands of hosts."""

UNREACHABLE = "service unreachable"

Json = dict[str, Any]


class ServiceError(ZfsIscsiError):
    """The service refused, failed, or can't be reached.

    Attributes:
        title: the kind of problem, in a few words (RFC 9457).
        detail: what happened this time.
        status: HTTP status; 0 when no answer came.
        host: label of the host that it is about, or "".
    """

    def __init__(
        self, title: str, detail: str = "", *, fix: str = "", status: int = 0, host: str = ""
    ) -> None:
        self.title = title
        self.detail = detail or title
        self.host = host
        named = not host or self.detail.startswith(host)
        super().__init__(self.detail if named else f"{host}: {self.detail}", fix=fix)
        self.status = status

    @property
    def unreachable(self) -> bool:
        """Whether nobody answered, so that asking again later may help."""
        return not self.status and self.title == UNREACHABLE


class _Bearer(requests.auth.AuthBase):
    """Adds the token (RFC 6750). It is read at each request, so that it can be changed."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        try:
            token = self._path.read_text("ascii", errors="replace").strip()
        except OSError as error:
            raise ServiceError(
                "no token",
                f"the token file {self._path} can't be read: {error.strerror}",
                fix=f"chgrp cape {self._path} && chmod 640 {self._path}",
            ) from None
        if not re.fullmatch(r"[!-~]+", token):  # else requests would quote it in its error
            raise ServiceError(
                "no token",
                f"the token file {self._path} does not hold one word of printable ASCII",
                fix=f"copy {self._path} from the storage server again",
            )
        request.headers["Authorization"] = f"Bearer {token}"
        return request


class Transport:
    """Sends requests. Safe from any thread: every request has a connection of its own.

    Args:
        service: http://ADDRESS:PORT, https://..., or unix:///PATH of a socket.
        token_file: file with the bearer token; None only for a unix socket.
        ca_file: file with the certificates to trust, for https; None: the public authorities'.
        connect_timeout: seconds.
        read_timeout: seconds, for what the service answers at once.
        margin: seconds instead of MARGIN.

    Raises:
        ServiceError: the URL is not one of these.
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
        scheme, separator, rest = service.partition("://")
        if scheme not in ("http", "https", "unix") or not separator or not rest:
            raise ServiceError(
                "wrong service URL",
                f"service = {service!r} is no URL of a service",
                fix="service = http://127.0.0.1:8470 or unix:///run/zfsiscsi/api.sock",
            )
        self.service = service
        self._socket = rest if scheme == "unix" else None
        self._base = "http://localhost" if scheme == "unix" else service.rstrip("/")
        self._auth = _Bearer(Path(token_file)) if token_file else None
        self._ca_file = ca_file if scheme == "https" else None
        self._connect_timeout = connect_timeout
        self._read_timeout = read_timeout
        self._margin = MARGIN if margin is None else margin

    def ask(
        self, method: str, path: str, body: Json | None = None, host: str = "", wait: float = 0.0
    ) -> Any:  # noqa: ANN401 - whatever JSON it sends
        """Return the JSON of the answer.

        Args:
            method: HTTP method.
            path: of the URL, from the first slash.
            body: sent as JSON; None for none.
            host: label of the host that it is about, for the error.
            wait: seconds that the service was asked to keep to; it gets the margin more.

        Raises:
            ServiceError: anything else than an answer of success.
        """
        response, text = self._send(method, path, body, host, wait)
        return self._judge(response, text, host)

    def fetch(self, path: str) -> bytes:
        """Return what is there as it is.

        Raises:
            ServiceError: as ask().
        """
        response, content = self._send("GET", path)
        if response.status_code != requests.codes.ok:
            self._judge(response, content, "")
            raise self.strange(f"it answered {response.status_code}")
        return content

    def _send(
        self, method: str, path: str, body: Json | None = None, host: str = "", wait: float = 0.0
    ) -> tuple[requests.Response, bytes]:
        patience = wait + self._margin if wait else self._read_timeout
        if self._ca_file and (unusable := trust.unusable(self._ca_file)):
            what, fix = unusable
            raise ServiceError(trust.TITLE, what, fix=fix, host=host)
        try:
            with requests.Session() as session:
                session.trust_env = False  # no proxy, no .netrc, from CAPE's environment
                session.verify = self._ca_file or True
                if self._socket:
                    session.mount("http://", UnixAdapter(self._socket))
                with session.request(
                    method,
                    self._base + path,
                    json=body,
                    auth=self._auth,
                    headers={"Accept": "application/json", "Accept-Encoding": "identity"},
                    timeout=(self._connect_timeout, patience),
                    allow_redirects=False,  # the token goes nowhere else
                    stream=True,
                ) as response:
                    text = self._read(response, time.monotonic() + patience, host)
        except (requests.ReadTimeout, ReadTimeoutError):
            raise self._silent(patience, host) from None
        except (requests.RequestException, HTTPError) as error:
            cause = _cause(error)
            if untrusted := trust.explain(cause, self.service, self._ca_file):
                what, fix = untrusted
                raise ServiceError(trust.TITLE, what, fix=fix, host=host) from None
            raise ServiceError(
                UNREACHABLE,
                f"no answer of the service at {self.service}: {_reason(cause)}",
                fix="systemctl status zfsiscsi on the storage server; "
                "check service = in zfsiscsi.conf",
                host=host,
            ) from None
        return response, text

    def _read(self, response: requests.Response, end: float, host: str) -> bytes:
        text = b""
        # read1 returns what is there; urllib3 before 2.2 waits for all that was asked for.
        read = getattr(response.raw, "read1", response.raw.read)
        while part := read(65536):
            text += part
            if len(text) > MAX_ANSWER:
                raise self.strange(f"it sent more than {MAX_ANSWER} bytes", host)
            if time.monotonic() > end:  # a byte now and then keeps a read timeout from ending
                raise self.strange("its answer does not end", host)
        return text

    def _judge(self, response: requests.Response, text: bytes, host: str) -> Any:  # noqa: ANN401
        try:
            answer = json.loads(text)
        except ValueError:
            raise self.strange(f"it answered {response.status_code} without JSON", host) from None
        if response.status_code < 300:
            return answer
        problem: Json = answer if isinstance(answer, dict) else {}
        fixes = {401: "check token_file = in zfsiscsi.conf: the service has another token"}
        raise ServiceError(
            shown(str(problem.get("title") or f"HTTP {response.status_code}")),
            shown(str(problem.get("detail") or "")),  # a guest's words, perhaps, for a log
            fix=shown(str(problem.get("fix") or fixes.get(response.status_code, ""))),
            status=response.status_code,
            host=str(problem.get("host") or host),
        )

    def _silent(self, patience: float, host: str) -> ServiceError:
        return ServiceError(
            "service silent",
            f"the service at {self.service} did not answer within {patience:.0f} s",
            fix="journalctl -u zfsiscsi on the storage server",
            host=host,
        )

    def strange(self, what: str, host: str = "") -> ServiceError:
        """Return the error for an answer that our service never gives."""
        return ServiceError(
            "not the service",
            f"what answers at {self.service} is not our service: {what}",
            fix="check service = in zfsiscsi.conf",
            host=host,
        )


def _cause(error: BaseException) -> BaseException:
    """Return the innermost cause: requests wraps it in layers of addresses and reprs."""
    cause: BaseException = error
    while True:
        inner = getattr(cause, "reason", None) or next(
            (arg for arg in reversed(cause.args) if isinstance(arg, BaseException)), None
        )
        if not isinstance(inner, BaseException):
            break
        cause = inner
    return cause.__cause__ or cause


def _reason(cause: BaseException) -> str:
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return str(cause) or type(cause).__name__

"""HTTP to one Redfish BMC: what sushy calls a connector, under our deadlines.

Sushy's own asks again by itself, up to ten times: that must be decided in one place (proved.py).
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

import requests
from requests.adapters import HTTPAdapter
from sushy import exceptions

from cuckoo_zfsiscsi.deadline import Deadline

if TYPE_CHECKING:
    from pydantic import SecretStr

CONNECT = 10.0
"""Seconds for the connection; the answer may take all that the deadline allows."""
LARGEST = 4 << 20
"""Bytes of one answer."""
CHUNK = 1 << 16
FINGERPRINT_TIMEOUT = 5.0


class BusyError(exceptions.SushyError):  # type: ignore[misc]  # sushy has no types
    """The BMC asks us to come later (HTTP 429 or 503)."""


class Http:
    """Implements what sushy needs of a connector: get, post and patch.

    Args:
        base: https://ADDRESS:PORT.
        user: and
        secret: HTTP basic authentication, which every Redfish service has (DSP0266, 13.3.4).
        verify: file with certificates to trust; None: the system's.
        fingerprint: SHA-256 of the one certificate to trust, in hexadecimal; "" for none.
    """

    def __init__(
        self, base: str, user: str, secret: SecretStr, verify: str | None, fingerprint: str
    ) -> None:
        self.deadline = Deadline(CONNECT)
        self._base = base
        self._session = requests.Session()
        self._session.trust_env = False  # no proxy, no .netrc
        # requests writes latin-1; BMCs, as all else, read UTF-8 (RFC 7617, 2.1)
        password = secret.get_secret_value().encode().decode("latin-1")
        self._session.auth = (user.encode().decode("latin-1"), password)
        # Some BMCs choke on connections that stay open.
        self._session.headers.update({"Connection": "close", "Accept-Encoding": "identity"})
        self._session.headers.update({"OData-Version": "4.0"})
        self._session.verify = verify or True
        if fingerprint:
            self._session.verify = False  # a stranger's signature says nothing: this one counts
            self._session.mount("https://", _Pinned(fingerprint))

    def get(self, path: str = "", **_options: Any) -> requests.Response:  # noqa: ANN401 - sushy's
        """GET."""
        return self._ask("GET", path, None, {})

    def post(
        self,
        path: str = "",
        data: Any = None,  # noqa: ANN401 - any JSON
        **_options: Any,  # noqa: ANN401 - sushy's
    ) -> requests.Response:
        """POST, with JSON."""
        return self._ask("POST", path, data, {})

    def patch(
        self,
        path: str = "",
        data: Any = None,  # noqa: ANN401 - any JSON
        etag: str | None = None,
        **_options: Any,  # noqa: ANN401 - sushy's
    ) -> requests.Response:
        """PATCH, with JSON."""
        return self._ask("PATCH", path, data, {"If-Match": etag} if etag else {})

    def _ask(self, method: str, path: str, data: Any, headers: dict[str, str]) -> requests.Response:  # noqa: ANN401 - any JSON
        url = urljoin(self._base, path)
        what = f"{method} {path}"
        left = max(0.1, self.deadline.remaining)
        try:
            response = self._session.request(
                method,
                url,
                json=data,
                headers=headers,
                timeout=(min(CONNECT, left), left),
                stream=True,
                allow_redirects=False,
            )
            with response:
                body = b""
                for chunk in response.iter_content(CHUNK):
                    self.deadline.check(what)
                    body += chunk
                    if len(body) > LARGEST:
                        raise exceptions.ConnectionError(url=path, error="an endless answer")
        except requests.RequestException as error:
            raise exceptions.ConnectionError(url=path, error=error) from error
        response._content = body  # what requests itself does when it reads the body
        if response.status_code in (429, 503):
            raise BusyError(f"HTTP {response.status_code}")
        exceptions.raise_for_response(method, path, response)
        return response


class _Pinned(HTTPAdapter):
    """Trusts one certificate, whoever signed it and whatever name it has."""

    def __init__(self, fingerprint: str) -> None:
        self._fingerprint = fingerprint
        super().__init__()

    def init_poolmanager(self, *args: Any, **options: Any) -> None:  # noqa: ANN401 - urllib3's
        """As HTTPAdapter does, with the fingerprint."""
        super().init_poolmanager(*args, **options, assert_fingerprint=self._fingerprint)


def fingerprint_of(host: str, port: int) -> str:
    """Return the SHA-256 fingerprint of the certificate that a BMC shows; "" if it shows none."""
    import hashlib

    try:
        shown = ssl.get_server_certificate((host, port), timeout=FINGERPRINT_TIMEOUT)
    except (OSError, ValueError):
        return ""
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(shown)).hexdigest()

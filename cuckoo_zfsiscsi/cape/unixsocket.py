"""HTTP over a unix socket, for requests."""

from __future__ import annotations

import socket
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool


class UnixAdapter(HTTPAdapter):
    """Sends every request to one socket, whatever its URL says.

    Args:
        path: of the socket.
    """

    def __init__(self, path: str) -> None:
        super().__init__()
        self._pool = _Pool(path)

    def get_connection(self, *_args: Any, **_options: Any) -> HTTPConnectionPool:  # noqa: ANN401
        """Return the one pool (requests before 2.32 asks this)."""
        return self._pool

    get_connection_with_tls_context = get_connection

    def close(self) -> None:
        """Close the connection too."""
        self._pool.close()
        super().close()


class _Pool(HTTPConnectionPool):
    def __init__(self, path: str) -> None:
        super().__init__("localhost")
        self._path = path

    def _new_conn(self) -> HTTPConnection:
        return _Connection(self._path)


class _Connection(HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(self.timeout)
            sock.connect(self._path)
        except BaseException:
            sock.close()
            raise
        self.sock = sock

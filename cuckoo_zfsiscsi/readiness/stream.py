"""A TCP connection to a guest, who is not trusted: bounded in bytes and in time."""

from __future__ import annotations

import contextlib
import errno
import io
import ipaddress
import os
import select
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING

from cuckoo_zfsiscsi.deadline import Deadline

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

POLL = 0.05
"""Seconds between two looks at a wish to cancel."""


class GuestError(Exception):
    """The guest does not answer as it should; the text is for people."""


class UnreachableError(GuestError):
    """There is no connection: nobody is there, or nobody listens."""


class GuestStream(io.RawIOBase):
    """Reads and writes while a deadline allows; whoever dribbles bytes gains nothing by it.

    Args:
        address: IP address; names are not looked up.
        port: TCP port.
        limit: bytes that are read at most.
        deadline: for everything, from the connection on.

    Raises:
        UnreachableError: refused, unreachable.
        GuestError: reset, too long, or an address that is none.
        DeadlineExceededError, CancelledError: from every method that waits.
    """

    def __init__(self, address: str, port: int, *, limit: int, deadline: Deadline) -> None:
        super().__init__()
        self._left = limit
        self._limit = limit
        self._deadline = deadline
        self._socket = socket.socket(_family(address), socket.SOCK_STREAM)
        self._socket.setblocking(False)
        with contextlib.ExitStack() as undo:
            undo.callback(self._socket.close)
            self._connect(address, port)
            undo.pop_all()

    def _connect(self, address: str, port: int) -> None:
        with _told("no connection", UnreachableError):
            code = self._socket.connect_ex((address, port))
            if code == errno.EINPROGRESS:
                self._wait(select.POLLOUT)
                code = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                raise OSError(code, os.strerror(code))

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Wait for some bytes; 0 when the guest has closed."""
        if not self._left:
            raise GuestError(f"sent more than {self._limit} bytes")
        view = memoryview(buffer)[: self._left]
        self._wait(select.POLLIN)
        with _told("connection lost"):
            count = self._socket.recv_into(view)
        self._left -= count
        return count

    def sendall(self, data: bytes) -> None:
        """Send all of it."""
        while data:
            self._wait(select.POLLOUT)
            with _told("connection lost"):
                data = data[self._socket.send(data) :]

    def makefile(self, *_args: object, **_options: object) -> io.BufferedReader:
        """Return a buffered reader, as http.client wants it from a socket."""
        return io.BufferedReader(self)

    def close(self) -> None:
        """Close the connection at once."""
        self._socket.close()
        super().close()

    def _wait(self, event: int) -> None:
        poll = select.poll()
        poll.register(self._socket, event)
        self._deadline.check("the guest's answer")
        while not poll.poll(min(POLL, self._deadline.remaining) * 1000):
            self._deadline.check("the guest's answer")


def _family(address: str) -> socket.AddressFamily:
    try:
        version = ipaddress.ip_address(address).version
    except ValueError:
        raise GuestError(f"{address!r} is not an IP address") from None
    return socket.AF_INET if version == 4 else socket.AF_INET6


@contextlib.contextmanager
def _told(what: str, kind: type[GuestError] = GuestError) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise kind(f"{what}: {error.strerror or error}") from None
